"""The state of an unfinished training: saved whole or not at all, and resumed exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from serve.contract.digest import canonical_json, sha256_of_file
from serve.contract.manifest import fsync_folder, fsync_path

__all__ = ["Progress", "load_state", "save_state"]

PREFIX = ".state-"
TENSORS = "state.safetensors"
RECORD = "state.json"


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Args:
        step: optimiser steps done.
        sums: running sums of the unfinished epoch's terms.
        log_bytes: length of metrics.jsonl at this point; what follows is discarded on resume.
        plateau: best validation loss, epochs waited and decays of the plateau schedule.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    log_bytes: int = 0
    plateau: tuple[float | None, int, int] = (None, 0, 0)


def save_state(
    folder: Path,
    progress: Progress,
    *,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state beside older ones, then remove those.

    A state counts once its folder has its final name: it is written under another name, forced to
    disk and renamed, so a crash at any point leaves the older state.

    Args:
        folder: of the phase.
        progress: how far it is.
        modules: by a name without a dot: the model, its averages, an objective that learns.
        optimizer: of the phase.
    """
    tensors = {
        f"{key}.{name}": tensor
        for key, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    moments, groups = _flatten(optimizer.state_dict())
    tensors |= moments
    final = folder / f"{PREFIX}{progress.step:09d}"
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, partial / TENSORS)
    record = {
        "step": progress.step,
        "sums": progress.sums,
        "log_bytes": progress.log_bytes,
        "plateau": progress.plateau,
        "optimizer": groups,
        "sha256": sha256_of_file(partial / TENSORS),
    }
    (partial / RECORD).write_bytes(canonical_json(record))
    fsync_folder(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    fsync_path(folder)
    for other in folder.glob(f"{PREFIX}*"):
        if other != final:  # older, or newer and damaged
            shutil.rmtree(other)


def load_state(
    folder: Path, *, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> Progress:
    """Restore the newest state that is whole; the start of the training where there is none."""
    for saved in sorted(folder.glob(f"{PREFIX}*"), reverse=True):
        try:
            record: dict[str, Any] = json.loads((saved / RECORD).read_bytes())
            if record["sha256"] != sha256_of_file(saved / TENSORS):
                continue
            tensors = load_file(saved / TENSORS)
            progress = Progress(
                record["step"], record["sums"], record["log_bytes"], tuple(record["plateau"])
            )
            moments = _unflatten(tensors, record["optimizer"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
            continue
        for key, module in modules.items():
            module.load_state_dict(_below(f"{key}.", tensors))
        optimizer.load_state_dict(moments)
        return progress
    return Progress()


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    moments = {
        f"optim.{index}.{name}": value
        for index, values in state["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    groups = [
        {name: value for name, value in group.items() if not isinstance(value, Tensor)}
        for group in state["param_groups"]
    ]
    return moments, groups


def _unflatten(tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optim.", tensors).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in groups
    ]
    return {"state": state, "param_groups": groups}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }

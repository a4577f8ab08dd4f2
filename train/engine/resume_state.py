"""The state of an unfinished training: saved whole or not at all, and resumed exactly.

A state is a folder with the tensors (safetensors) and a record (JSON) that names their digest and
its own. It counts once the folder has its final name: it is written under another name, forced to
disk and renamed, so a crash at any point leaves the older states. The newest one that verifies is
resumed from.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from serve.contract.digest import canonical_json, digest_of_json, sha256_of_file
from serve.contract.errors import CheckpointError
from serve.contract.files import fsync_folder, fsync_path
from train.engine.progress import say

__all__ = ["ResumeState", "load_state", "save_state", "saved_steps"]

PREFIX = ".state-"
PARTIAL = ".partial"
TENSORS = "state.safetensors"
RECORD = "state.json"
VERSION = 2
KEEP = 2  # newest states; the best of all is kept beside them
SPARE_BYTES = 2**20  # that must stay free on the disk


@dataclass(frozen=True)
class ResumeState:
    """How far a training is.

    Args:
        step: optimiser steps done.
        sums: running sums of the unfinished epoch's terms.
        log_bytes: length of metrics.jsonl at this point; what follows is discarded on resume.
        plateau: best validation loss, epochs waited and decays of the plateau schedule.
        scaler: of an fp16 loss.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    log_bytes: int = 0
    plateau: tuple[float | None, int, int] = (None, 0, 0)
    scaler: dict[str, Any] = field(default_factory=dict)


def save_state(
    folder: Path,
    progress: ResumeState,
    *,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    lineage: Mapping[str, str] | None = None,
    val_loss: float | None = None,
    keep: int = KEEP,
) -> None:
    """Write a state, then remove all but the `keep` newest and the one of lowest `val_loss`.

    Args:
        folder: of the phase.
        progress: how far it is.
        modules: by a name without a dot: the model, its averages, an objective that learns.
        optimizer: of the phase.
        lineage: what the state belongs to: digests of the recipe and the dataset.
        val_loss: where this state was validated.
        keep: newest states that stay; at least 1.

    Raises:
        OSError: no space is left, or the folder cannot be written; older states are untouched.
    """
    tensors = {
        f"{key}.{name}": tensor
        for key, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    moments, groups = _flatten(optimizer.state_dict())
    host = {n: t.detach().cpu().contiguous() for n, t in (tensors | moments).items()}
    final, partial = folder / f"{PREFIX}{progress.step:09d}", folder / PARTIAL
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _check_space(partial, sum(tensor.nbytes for tensor in host.values()))
        save_file(host, partial / TENSORS)
        record = {
            "version": VERSION,
            "step": progress.step,
            "sums": progress.sums,
            "log_bytes": progress.log_bytes,
            "plateau": progress.plateau,
            "scaler": progress.scaler,
            "lineage": dict(lineage or {}),
            "val_loss": val_loss,
            "optimizer": groups,
            "sha256": sha256_of_file(partial / TENSORS),
        }
        record["digest"] = digest_of_json(record)
        (partial / RECORD).write_bytes(canonical_json(record))
        fsync_folder(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    except SafetensorError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(str(error)) from error
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    fsync_path(folder)
    _prune(folder, final, keep)


def load_state(
    folder: Path,
    *,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    lineage: Mapping[str, str] | None = None,
) -> ResumeState:
    """Restore the newest state that verifies; the start of the training where there is none.

    Raises:
        CheckpointError: the state is whole but belongs to another recipe or dataset.
    """
    for saved in sorted(folder.glob(f"{PREFIX}*"), reverse=True):
        try:
            record = _read_record(saved)
            if record["sha256"] != sha256_of_file(saved / TENSORS):
                raise ValueError("its tensors are not those that were saved")
            tensors = load_file(saved / TENSORS)
            progress = ResumeState(
                record["step"],
                record["sums"],
                record["log_bytes"],
                tuple(record["plateau"]),
                record["scaler"],
            )
            moments = _unflatten(tensors, record["optimizer"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            say(f"  {saved.name} is damaged and not used ({error}).")
            continue
        _check_lineage(saved, record["lineage"], lineage)
        for key, module in modules.items():
            module.load_state_dict(_below(f"{key}.", tensors))
        optimizer.load_state_dict(moments)
        _lay_out(optimizer)
        return progress
    return ResumeState()


def saved_steps(folder: Path) -> list[int]:
    """Steps of the states in a phase's folder, whole or not, in order."""
    return sorted(int(path.name.removeprefix(PREFIX)) for path in folder.glob(f"{PREFIX}*"))


def _read_record(saved: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((saved / RECORD).read_bytes())
    if record["version"] != VERSION:
        raise ValueError(f"its version is {record['version']}, this stillroom reads {VERSION}")
    if record["digest"] != digest_of_json({k: v for k, v in record.items() if k != "digest"}):
        raise ValueError("its record is not the one that was saved")
    return record


def _check_lineage(
    saved: Path, found: Mapping[str, str], expected: Mapping[str, str] | None
) -> None:
    for key, value in (expected or {}).items():
        if found.get(key) != value:
            raise CheckpointError(
                f"{saved} is of a training with another {key.removesuffix('_digest')}.",
                f"Go on with that one, or remove {saved.parent} to start anew.",
            )


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE_BYTES:
        raise OSError(
            f"no space left: a state takes {size / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free"
        )


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Remove what is older than the `keep` newest, but for the best, and what is newer: damaged."""
    older = sorted((p for p in folder.glob(f"{PREFIX}*") if p.name < newest.name), reverse=True)
    stay = {newest, *older[: keep - 1]}
    losses = {path: _val_loss(path) for path in (newest, *older)}
    best = min(losses, key=lambda path: losses[path])
    if losses[best] < math.inf:
        stay.add(best)
    for path in folder.glob(f"{PREFIX}*"):
        if path not in stay:
            shutil.rmtree(path, ignore_errors=True)


def _val_loss(saved: Path) -> float:
    try:
        value = _read_record(saved)["val_loss"]
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf
    return math.inf if value is None else float(value)


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


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give the moments the memory layout of their weights: fused kernels walk both side by side.

    Of channels-last weights they would otherwise mix up the entries, and say nothing.
    """
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == weight.shape:
                values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }

"""FixRes: fit the classifier and the last batch norm to the test resolution; freeze all else.

Training crops show objects larger than test crops do. Testing at a larger size undoes that, and
shifts the statistics of the last features; a short fine-tuning of what reads them repairs it.

Source: Touvron et al. 2019, arXiv:1906.06423, sections 4 and 5; implemented from the paper.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import StillroomError
from train.freeze import classifier_of
from train.models import PhotoClassifier

__all__ = ["ClassifierAndLastNorm", "changed_tensors", "last_norm", "tensor_digests"]


def last_norm(model: PhotoClassifier, size_px: int) -> str | None:
    """Name of the batch norm that runs last, found by running the model once.

    Structure, not names: whatever the architecture, the last one to execute is meant.

    Returns:
        Dotted name within the backbone; None where the model has no batch norm.
    """
    executed: list[str] = []
    norms = {n: m for n, m in model.backbone.named_modules() if isinstance(m, _BatchNorm)}
    hooks = [
        module.register_forward_hook(lambda *_, name=name: executed.append(name))
        for name, module in norms.items()
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8, device=model.device))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return executed[-1] if executed else None


class ClassifierAndLastNorm:
    """Freeze policy: the classifier learns, and of the last batch norm its statistics move.

    Args:
        norm: dotted name within the backbone; None for models without batch norm.
        affine: whether that batch norm's weight and bias learn too.
    """

    def __init__(self, norm: str | None, *, affine: bool) -> None:
        self._norm, self._affine = norm, affine

    def freeze(self, model: PhotoClassifier) -> None:
        """As `train.freeze.FreezePolicy`."""
        model.requires_grad_(False)
        classifier_of(model).requires_grad_(True)
        if self._norm is not None and self._affine:
            model.backbone.get_submodule(self._norm).requires_grad_(True)

    def set_mode(self, model: PhotoClassifier) -> None:
        """As `train.freeze.FreezePolicy`."""
        model.eval()
        classifier_of(model).train()
        if self._norm is not None:
            model.backbone.get_submodule(self._norm).train()

    def may_change(self, model: PhotoClassifier) -> set[str]:
        """Names of the backbone's tensors that this policy allows to change."""
        head = classifier_of(model)
        prefixes = [n for n, m in model.backbone.named_modules() if m is head]
        allowed = {n for n in model.backbone.state_dict() if _is_below(n, prefixes)}
        if self._norm is not None:
            statistics = ("running_mean", "running_var", "num_batches_tracked")
            names = (*statistics, "weight", "bias") if self._affine else statistics
            allowed |= {f"{self._norm}.{name}" for name in names}
        return allowed


def tensor_digests(module: nn.Module) -> dict[str, str]:
    """Hex sha256 of each tensor's bytes by name."""
    return {name: _digest(tensor) for name, tensor in module.state_dict().items()}


def changed_tensors(
    before: dict[str, str], after: dict[str, str], *, allowed: set[str]
) -> dict[str, Any]:
    """Prove that only allowed tensors changed.

    Returns:
        The proof for the manifest: how many tensors stayed equal, one digest over all of those,
        and the names of those that changed.

    Raises:
        StillroomError: a tensor changed that had to stay.
    """
    changed = sorted(name for name in before if after[name] != before[name])
    if wrong := [name for name in changed if name not in allowed]:
        raise StillroomError(
            f"FixRes changed {len(wrong)} tensors that are frozen, first {wrong[0]}.",
            "This is a bug in stillroom; please report it with the recipe.",
        )
    frozen = sorted(name for name in before if name not in allowed)
    joined = "\n".join(f"{name} {before[name]}" for name in frozen)
    return {
        "frozen_tensors": len(frozen),
        "frozen_digest": sha256_of_bytes(joined.encode()),
        "changed": changed,
    }


def _digest(tensor: Tensor) -> str:
    return sha256_of_bytes(tensor.detach().cpu().contiguous().numpy().tobytes())


def _is_below(name: str, prefixes: Iterable[str]) -> bool:
    return any(name.startswith(f"{prefix}.") for prefix in prefixes)

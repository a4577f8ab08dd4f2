"""Forward and loss of one step: in this process alone, or with gradients averaged over ranks."""

from __future__ import annotations

import copy
import itertools
from contextlib import nullcontext
from typing import Any, Protocol, cast

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from serve.contract.errors import UsageError
from train.engine.world import current_world
from train.extras.distributed.collectives import peer_errors
from train.losses.objective import Objective, StepOutput
from train.models.classifier import ImageClassifier

__all__ = ["Forward", "build_forward", "check_sync_bn", "synchronised_twin"]


class Forward(Protocol):
    """Forward and loss of a part of a batch."""

    def __call__(self, images: Tensor, labels: Tensor, *, last: bool) -> StepOutput:
        """Score it; the backward of the last part averages the gradients over the ranks."""
        ...


def build_forward(
    model: ImageClassifier, objective: Objective, *, sync_bn: bool, compiled: bool = False
) -> Forward:
    """What a training step calls.

    With other ranks, a backward of its loss leaves the mean gradient of all ranks; the model's
    weights and buffers become those of rank 0 now.

    Args:
        model: frozen as it stays; on its device.
        objective: forward and loss.
        sync_bn: whether batch norms normalise with the statistics of all ranks together.
        compiled: whether torch.compile runs the model; evaluation and replays do not.

    Raises:
        UsageError: sync_bn on a CPU.
    """
    if current_world().world_size == 1:
        runs = _compiled(model) if compiled else model
        return lambda images, labels, *, last: objective(runs, images, labels)
    if sync_bn:
        check_sync_bn(model.device)
    return _Parallel(model, objective, sync_bn=sync_bn, compiled=compiled)


def check_sync_bn(device: torch.device) -> None:
    """Refuse synchronised batch norm where torch has none.

    Raises:
        UsageError: the device is no GPU and there are other ranks.
    """
    if current_world().world_size > 1 and device.type != "cuda":
        raise UsageError(
            "sync_bn = true needs GPUs: on CPUs torch has no synchronised batch norm.",
            "Set sync_bn=false; each rank then normalises with the statistics of its own share.",
        )


def synchronised_twin(model: nn.Module) -> nn.Module:
    """A model with the same weights and buffers, whose batch norms speak to the other ranks.

    The model itself stays as it is, so it can be copied, replayed and measured by one rank alone.
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    twin: nn.Module = convert_sync_batchnorm(copy.deepcopy(model, {id(t): t for t in tensors}))
    return twin


class _Parallel:
    """Torch's own data-parallel engine around one step."""

    def __init__(
        self, model: ImageClassifier, objective: Objective, *, sync_bn: bool, compiled: bool
    ) -> None:
        self._model = model
        self._twin = synchronised_twin(model) if sync_bn else model
        runs = _compiled(self._twin) if compiled else self._twin
        devices = [model.device.index] if model.device.type == "cuda" else None
        with peer_errors("comparing models"):
            # Each rank's batch norms follow its own share; rank 0's are sent where they count.
            self._engine = DistributedDataParallel(
                _Step(runs, objective), device_ids=devices, forward_sync_buffers=False
            )

    def __call__(self, images: Tensor, labels: Tensor, *, last: bool) -> StepOutput:
        if self._twin is not self._model:
            twins = dict(self._twin.named_modules())
            for name, module in self._model.named_modules():
                twins[name].training = module.training
        with peer_errors("starting a step"), nullcontext() if last else self._engine.no_sync():
            loss, logits, terms = self._engine(images, labels)
        return StepOutput(loss, logits, terms)


def _compiled(model: nn.Module) -> nn.Module:
    """The same weights, run by code that torch makes for the sizes it meets."""
    return cast(nn.Module, torch.compile(model))


class _Step(nn.Module):
    """What the engine wraps; the objective is no part of it, and has no weights that learn."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = (objective,)  # in a tuple, so that it is not registered

    def forward(self, images: Tensor, labels: Tensor) -> Any:
        output = self._objective[0](self.model, images, labels)
        return output.loss, output.logits, output.terms

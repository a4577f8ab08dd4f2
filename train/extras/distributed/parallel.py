"""Forward and loss of one step whose gradients are averaged over the ranks, by torch's engine."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from serve.contract.errors import UsageError
from train.engine.world import Forward
from train.losses.objective import Objective, StepOutput
from train.models.classifier import ImageClassifier

__all__ = ["build_forward", "check_sync_bn", "synchronised_twin"]


def build_forward(
    model: ImageClassifier, objective: Objective, *, sync_bn: bool, prepare: Callable[[Any], Any]
) -> Forward:
    """What a training step calls, among ranks: see `train.engine.world.World.build_forward`.

    Raises:
        UsageError: sync_bn on a CPU.
    """
    if sync_bn:
        check_sync_bn(model.device)
    return _Parallel(model, objective, sync_bn=sync_bn, prepare=prepare)


def check_sync_bn(device: torch.device) -> None:
    """Refuse synchronised batch norm where torch has none.

    Raises:
        UsageError: the device is not a GPU.
    """
    if device.type != "cuda":
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
        self,
        model: ImageClassifier,
        objective: Objective,
        *,
        sync_bn: bool,
        prepare: Callable[[Any], Any],
    ) -> None:
        self._model = model
        self._twin = synchronised_twin(model) if sync_bn else model
        devices = [model.device.index] if model.device.type == "cuda" else None
        # Each rank's batch norms follow its own share; rank 0's are sent where they count.
        self._engine = DistributedDataParallel(
            _Step(prepare(self._twin), objective), device_ids=devices, forward_sync_buffers=False
        )

    def __call__(self, images: Tensor, labels: Tensor, *, last: bool) -> StepOutput:
        if self._twin is not self._model:
            twins = dict(self._twin.named_modules())
            for name, module in self._model.named_modules():
                twins[name].training = module.training
        with nullcontext() if last else self._engine.no_sync():
            loss, logits, terms = self._engine(images, labels)
        return StepOutput(loss, logits, terms)


class _Step(nn.Module):
    """What the engine wraps; the objective is not part of it, and has no weights that learn."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = (objective,)  # in a tuple, so that it is not registered

    def forward(self, images: Tensor, labels: Tensor) -> Any:
        output = self._objective[0](self.model, images, labels)
        return output.loss, output.logits, output.terms

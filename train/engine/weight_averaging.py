"""Averages of a training's weights, and batch norm statistics that fit them.

A training ends with several candidates: the last weights, their moving average (EMA) and the mean
over the last epochs (SWA). Averaged weights have never seen a batch, so the statistics of their
batch norms are averages too, not measurements; precise batch norm measures them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from train.engine.world import current_world

__all__ = ["Candidate", "build_ema", "build_swa", "choose", "measure_norms", "norms_that_move"]

Scores = dict[str, float]


@dataclass(frozen=True)
class Candidate:
    """Weights that could be kept, with their validation scores.

    Args:
        name: raw, ema or swa; with "+bn" where the batch norms were measured again.
        model: that has the weights.
        scores: val_loss and val_top1.
    """

    name: str
    model: nn.Module
    scores: Scores


def build_ema(model: nn.Module, decay: float) -> ModelEmaV3:
    """A moving average of the weights, buffers included; its decay warms up from 0."""
    return ModelEmaV3(model, decay=decay, use_warmup=True)


def build_swa(model: nn.Module) -> AveragedModel:
    """An equal average of the weights, buffers included; empty until it is updated.

    Source: Izmailov et al. 2018, arXiv:1803.05407, algorithm 1.
    """
    return AveragedModel(model, use_buffers=True)


def choose(candidates: list[Candidate]) -> Candidate:
    """The lowest validation loss; of equal ones the later. NaN never wins over a number.

    The loss and not top-1: on some hundred images it tells candidates apart that top-1 does
    not.
    """
    best = candidates[0]
    for candidate in candidates[1:]:
        if not candidate.scores["val_loss"] > best.scores["val_loss"]:
            is_number = candidate.scores["val_loss"] == candidate.scores["val_loss"]
            best = candidate if is_number else best
    return best


def norms_that_move(model: nn.Module) -> list[str]:
    """Names of the batch norms whose statistics a training step moves, in the model's mode now."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
    ]


def measure_norms(
    model: nn.Module, names: list[str], batches: Callable[[], Iterable[Tensor]]
) -> None:
    """Set the statistics of batch norms to the mean and variance of what reaches them.

    All named norms normalise with the statistics of the batch while the images pass, as in
    training; the rest of the model is in evaluation mode. Mean and variance are those of all
    images together, not averages over batches: with one batch norm, or one batch, they are exact.

    Args:
        model: changed in place; the mode of every layer is restored.
        names: of batch norms in it.
        batches: called once; images (N, H, W, 3), of this rank: statistics are those of all ranks'.

    Source: Wu and Johnson 2021, arXiv:2105.07576, section 3.
    """
    norms = {n: m for n, m in model.named_modules() if n in names and isinstance(m, _BatchNorm)}
    meters = {name: _Meter() for name in norms}
    with _modes_restored(model), torch.no_grad():
        model.eval()
        hooks = []
        momenta: dict[str, Any] = {}
        for name, meter in meters.items():
            norm = norms[name]
            momenta[name], norm.momentum = norm.momentum, 0.0  # its own average stands still
            norm.train()
            hooks.append(norm.register_forward_pre_hook(meter))
        try:
            for images in batches():
                model(images)
        finally:
            for hook in hooks:
                hook.remove()
            for name, momentum in momenta.items():
                norms[name].momentum = momentum
        for name, meter in meters.items():
            meter.join_ranks(norms[name])
            meter.write(norms[name])


class _Meter:
    """Exact mean and variance of each channel of a layer's input, in double precision."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None  # sum of squared distances from the mean

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().transpose(0, 1).flatten(1).double()
        count = values.shape[1]
        mean = values.mean(1)
        squares = (values - mean[:, None]).square().sum(1)
        if self._mean is None or self._squares is None:
            self._count, self._mean, self._squares = count, mean, squares
            return
        # Two parts' means and squares joined: Chan, Golub and LeVeque 1983, equations 1.5.
        seen = self._count + count
        apart = mean - self._mean
        self._mean = self._mean + apart * (count / seen)
        self._squares = self._squares + squares + apart.square() * (self._count * count / seen)
        self._count = seen

    def join_ranks(self, norm: _BatchNorm) -> None:
        """Add what the other ranks measured: the same rule, for any number of parts."""
        world = current_world()
        if world.world_size == 1:
            return
        nothing = torch.zeros_like(cast(Tensor, norm.running_mean), dtype=torch.float64)
        own = nothing if self._mean is None else self._mean
        squares = nothing if self._squares is None else self._squares
        count = world.all_reduce_sum(torch.tensor(self._count, dtype=torch.float64))
        if not count:
            return
        mean = world.all_reduce_sum(own * self._count) / count.item()
        self._squares = world.all_reduce_sum(squares + (own - mean).square() * self._count)
        self._mean, self._count = mean, int(count)

    def write(self, norm: _BatchNorm) -> None:
        if self._mean is None or self._squares is None:
            return
        variance = self._squares / max(1, self._count - 1)  # as torch keeps it: unbiased
        for statistic, value in ((norm.running_mean, self._mean), (norm.running_var, variance)):
            if statistic is not None:
                statistic.copy_(value)


@contextmanager
def _modes_restored(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

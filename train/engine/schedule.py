"""The learning rate: a function of the step, and for `plateau` of the validation losses so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Plateau", "Schedule", "learning_rate"]


@dataclass(frozen=True)
class Schedule:
    """How the rate moves over a training, in steps.

    Args:
        kind: cosine, constant, step, plateau or cyclic.
        peak: highest rate.
        floor: no rate after the warm-up is lower.
        total: steps of the whole training.
        warmup: steps of the linear rise; step 0 already learns.
        cycles: cyclic: number of equal cosines.
        decay_steps: step: steps between two decays.
        decay_factor: step and plateau: what the rate is multiplied with.
        hold_from: from this step on the rate is `hold`, for the average of weights (SWA).
        hold: rate of those steps.
    """

    kind: str
    peak: float
    floor: float
    total: int
    warmup: int = 0
    cycles: int = 1
    decay_steps: int = 1
    decay_factor: float = 0.1
    hold_from: int | None = None
    hold: float = 0.0

    def rate(self, step: int, decays: int = 0) -> float:
        """The rate of one step.

        Args:
            step: from 0.
            decays: plateau: how often the rate was lowered until now.
        """
        if self.hold_from is not None and step >= self.hold_from:
            return self.hold
        if step < self.warmup:
            return self.peak * (step + 1) / (self.warmup + 1)
        if self.kind in ("cosine", "cyclic"):
            return self._cosine(step - self.warmup)
        if self.kind == "step":
            decays = (step - self.warmup) // max(1, self.decay_steps)
        elif self.kind == "constant":
            decays = 0
        return max(min(self.floor, self.peak), self.peak * self.decay_factor**decays)

    def _cosine(self, step: int) -> float:
        cycles = self.cycles if self.kind == "cyclic" else 1
        length = math.ceil(max(1, self.total - self.warmup) / cycles)
        return learning_rate(
            step % length, total=length, warmup=0, peak=self.peak, floor=self.floor
        )


def learning_rate(step: int, *, total: int, warmup: int, peak: float, floor: float) -> float:
    """Linear warm-up to `peak`, then a cosine to `floor`.

    Args:
        step: from 0.
        total: steps of the whole training.
        warmup: steps of the rise; step 0 already learns.
        peak: highest rate.
        floor: rate of the last step.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, one cycle.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    share = (step - warmup) / max(1, total - 1 - warmup)
    floor = min(floor, peak)
    return floor + (peak - floor) * (1 + math.cos(math.pi * min(1.0, share))) / 2


@dataclass
class Plateau:
    """Counts how often the validation loss stopped falling.

    Args:
        patience: epochs without a new best loss after which the rate is lowered.
    """

    patience: int
    best: float = field(default=math.inf)
    waited: int = 0
    decays: int = 0

    def watch(self, loss: float) -> None:
        """Take in the validation loss of one epoch."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.waited, self.decays = 0, self.decays + 1

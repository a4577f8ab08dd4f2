"""Backbones compared: accuracy, size, speed and what training cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillroom.page.format import interval, ms, percent
from stillroom.report.paired import Paired
from stillroom.sweep.speed import busy_notice
from stillroom.sweep.trial import TrialResult

__all__ = ["Backbone", "Backbones"]


@dataclass(frozen=True)
class Backbone:
    """One architecture.

    Args:
        number: of its folder.
        arch: timm name.
        weights: that it began with.
        outcome: of its training.
        latency: median_ms, q1_ms and q3_ms.
        behind: the best one minus this; None for the best one.
    """

    number: int
    arch: str
    weights: str
    outcome: TrialResult
    latency: Mapping[str, float]
    behind: Paired | None

    def row(self) -> dict[str, Any]:
        """For results.csv."""
        outcome = self.outcome
        return {
            "trial": self.number,
            "arch": self.arch,
            "weights": self.weights,
            "val_top1": outcome.top1,
            "val_top1_low": outcome.top1_low,
            "val_top1_high": outcome.top1_high,
            "n": outcome.n,
            "parameters": outcome.parameters,
            "flops": outcome.flops,
            "latency_ms": self.latency["median_ms"],
            "latency_q1_ms": self.latency["q1_ms"],
            "latency_q3_ms": self.latency["q3_ms"],
            "epochs": outcome.epochs,
            "epoch_s": outcome.epoch_s,
            "wall_s": outcome.wall_s,
            "behind": self.behind.difference if self.behind else 0.0,
            "behind_p": self.behind.p if self.behind else None,
        }


@dataclass(frozen=True)
class Backbones:
    """All of them.

    Args:
        entries: in the order they were named.
        best: highest val top-1; of equal ones the lowest loss.
        budget: what was equal, in words.
    """

    entries: list[Backbone]
    best: Backbone
    budget: str

    @property
    def fastest_equal(self) -> Backbone:
        """The fastest that cannot be told from the best; the best itself, maybe."""
        equal = [entry for entry in self.entries if entry.behind is None or not entry.behind.shown]
        return min(equal, key=lambda entry: entry.latency["median_ms"])

    def sentences(self) -> list[str]:
        """The verdict."""
        best, outcome = self.best, self.best.outcome
        spread = interval(outcome.top1_low, outcome.top1_high)
        sentences = [
            f"{best.arch} is best on val: {percent(outcome.top1)} ({spread}, n = {outcome.n}), "
            f"{ms(best.latency['median_ms'])} an image."
        ]
        fast = self.fastest_equal
        if fast.behind is not None:
            sentences.append(
                f"{fast.arch} cannot be told from it and takes {ms(fast.latency['median_ms'])}: "
                f"best minus this {fast.behind.describe()}."
            )
        elif len(self.entries) > 1:
            sentences.append("No faster one is as good, as far as these images tell.")
        sentences += busy_notice(entry.latency for entry in self.entries)
        sentences.append(
            f"The budget: {self.budget}. All have the recipe's learning rate and augmentation; an "
            "architecture that needs others is put at a disadvantage, so search those of the "
            "finalists before you drop one for a small difference."
        )
        return sentences

"""What is known of a search, as its files and its page show it."""

from __future__ import annotations

from dataclasses import dataclass

from stillroom.report.paired import Paired
from stillroom.sweep.search.points import Point
from stillroom.sweep.trial import TrialResult

__all__ = ["SearchResult", "TrialRow"]


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Args:
        number: of its folder.
        state: complete, pruned, failed or running.
        values: of the searched keys.
        outcome: None where it is not complete.
        own: whether these are the recipe's own values.
        why: of a failure.
        epochs: that were reported.
        last_top1: val top-1 of the last of them; None where there is none.
    """

    number: int
    state: str
    values: Point
    outcome: TrialResult | None
    own: bool
    why: str
    epochs: int
    last_top1: float | None


@dataclass(frozen=True)
class SearchResult:
    """Everything the page shows.

    Args:
        rows: in the order of the trials.
        best: the best complete trial; None where there is none.
        against_own: best minus the recipe's own values; None where one is missing, or they are one.
        equals: complete trials that are not distinguishable from the best, itself left out.
        importances: by key; empty where too few trials finished.
    """

    rows: list[TrialRow]
    best: TrialRow | None
    against_own: Paired | None
    equals: int
    importances: dict[str, float]

    def count(self, state: str) -> int:
        """Trials of a state."""
        return sum(row.state == state for row in self.rows)

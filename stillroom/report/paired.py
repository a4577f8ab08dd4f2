"""Two trainings on the same validation images: is the difference more than chance?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillroom.page.format import p_value, points
from stillroom.report.comparison import compare
from train.evaluation import Predictions

__all__ = ["Paired", "pair", "paired_interval"]

RESAMPLES = 10_000


@dataclass(frozen=True)
class Paired:
    """First minus second on the same images.

    Args:
        n: images.
        difference: of top-1, a fraction.
        low: of its 95 % bootstrap interval over the images.
        high: likewise.
        p: exact two-sided McNemar p.
        shown: whether p is below 0.05.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    shown: bool

    def describe(self) -> str:
        """+1.2 points (−0.5 to +2.9; paired, n = 440, McNemar p = 0.21): no difference shown."""
        reading = "no difference shown"
        if self.shown:
            reading = "better" if self.difference > 0 else "worse"
        return (
            f"{points(self.difference)} points ({points(self.low)} to {points(self.high)}; "
            f"paired, n = {self.n}, McNemar p {p_value(self.p)}): {reading}"
        )


def pair(first: Predictions, second: Predictions) -> Paired:
    """Compare answers to the same images in the same order."""
    result = compare("first − second", first, second)
    right = [one.predicted == one.targets for one in (second, first)]
    low, high = paired_interval(*right)
    return Paired(result.n, result.difference, low, high, result.p, result.shown)


def paired_interval(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, float]:
    """95 % bootstrap interval of mean(after) - mean(before) over the same images.

    Args:
        before: (N,) whether the first model is right.
        after: (N,) whether the second is.

    Source: Efron 1979, percentile method; 10 000 resamples with a fixed seed.
    """
    change = after.astype(np.int8) - before.astype(np.int8)
    values, counts = np.unique(change, return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(change), counts / len(change), RESAMPLES)
    low, high = np.percentile(draws @ values / len(change), [2.5, 97.5])
    return float(low), float(high)

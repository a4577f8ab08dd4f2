"""Arms of several seeds on the same images: what their difference is, and how sure one may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

__all__ = ["PairedDifference", "mcnemar_p", "mean_interval", "paired_difference"]

DRAWS = 4000


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of right predictions, as a fraction, with its 95 % interval and p-value.

    Args:
        mean: second minus first.
        low: lower end of the interval.
        high: upper end.
        p: exact McNemar test over all (seed, image) pairs.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, seed: int = 0
) -> PairedDifference:
    """Compare two arms that were trained with the same seeds and asked about the same images.

    Both the seeds and the images are drawn with replacement (a two-way bootstrap), because both
    would be others in a repetition; with three seeds the interval is a rough one.

    Args:
        first: (seeds, images), whether the answer is right.
        second: likewise.
        seed: of the bootstrap.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"Arms of shapes {first.shape} and {second.shape} cannot be paired.")
    gain = second.astype(np.int8) - first.astype(np.int8)
    low, high = mean_interval(gain, seed=seed)
    p = mcnemar_p(int((gain > 0).sum()), int((gain < 0).sum()))
    return PairedDifference(float(gain.mean()), low, high, p)


def mean_interval(values: NDArray[Any], *, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of (seeds, images) values: both drawn with replacement."""
    random = np.random.default_rng(seed)
    seeds, images = values.shape
    means = np.empty(DRAWS)
    for draw in range(DRAWS):
        rows, columns = random.integers(0, seeds, seeds), random.integers(0, images, images)
        means[draw] = values[rows][:, columns].mean()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def mcnemar_p(gained: int, lost: int) -> float:
    """Exact two-sided p-value of McNemar's test; 1 where nothing changed."""
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0

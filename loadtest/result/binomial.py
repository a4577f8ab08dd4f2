"""Exact binomial confidence intervals.

Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits"; the incomplete beta
function by its continued fraction, Abramowitz and Stegun 26.5.8, evaluated as Lentz does.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

__all__ = ["at_most", "beta_cdf", "clopper_pearson", "median_ranks", "percentile_ranks"]

ITERATIONS = 500
TINY = 1e-300


def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The shares under which as many hits, or as few, would not be a surprise.

    Args:
        hits: 0 to n.
        n: trials; with none, nothing is known.
        confidence: that the interval covers the true share, at least.

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ValueError: hits out of range.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n} trials are impossible")
    tail = (1 - confidence) / 2
    low = _beta_quantile(tail, hits, n - hits + 1) if hits else 0.0
    high = _beta_quantile(1 - tail, hits + 1, n - hits) if hits < n else 1.0
    return low, high


def at_most(hits: int, n: int, share: float) -> float:
    """The chance of as few hits, or fewer, in n trials that each hit with chance `share`."""
    if not 0 <= hits < n:
        return 0.0 if hits < 0 else 1.0
    return 1 - beta_cdf(share, hits + 1, n - hits)


def median_ranks(n: int, confidence: float = 0.95) -> tuple[int, int] | None:
    """Ranks, from 1, of the sorted values that hold the median of their population between them.

    Exact for every continuous distribution: how many values lie below the median is a binomial
    count with probability one half.

    Returns:
        Lower and upper rank; None where even the extremes are not that sure (below 6 for 95 %).
    """
    tail = (1 - confidence) / 2
    below, rank = 0.0, 0
    log_half = n * math.log(2)
    while rank <= n // 2:
        log_ways = math.lgamma(n + 1) - math.lgamma(rank + 1) - math.lgamma(n - rank + 1)
        below += math.exp(log_ways - log_half)
        if below > tail:
            break
        rank += 1
    return (rank, n - rank + 1) if rank else None


def percentile_ranks(
    percentile: float, n: int, confidence: float = 0.95
) -> tuple[int | None, int | None]:
    """Ranks, from 1, of the sorted values that hold a percentile of their population between them.

    Exact for every continuous distribution of independent values, as `median_ranks` for p50.

    Args:
        percentile: above 0 and below 100.
        n: how many values there are.
        confidence: that the two hold it between them, at least.

    Returns:
        Lower and upper rank; None where even the smallest, or the largest, is not that sure.
    """
    tail, share = (1 - confidence) / 2, percentile / 100
    ranks = range(1, n + 1)
    # how many values lie below the percentile is a binomial count
    low = bisect_right(ranks, tail, key=lambda rank: at_most(rank - 1, n, share))
    high = bisect_left(ranks, 1 - tail, key=lambda rank: at_most(rank - 1, n, share)) + 1
    return (low or None), (high if high <= n else None)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for a and b above 0."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges on the other side
        return 1 - beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / (_away_from_0(1 - (a + b) * x / (a + 1)))
    value = d
    for m in range(1, ITERATIONS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d = 1 / _away_from_0(1 + term * d)
            c = _away_from_0(1 + term / c)
            step = c * d
            value *= step
        if abs(step - 1) < 1e-14:
            break
    return value


def _away_from_0(value: float) -> float:
    return value if abs(value) > TINY else TINY


def _beta_quantile(probability: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2

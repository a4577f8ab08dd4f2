"""Exact percentiles of raw samples, by the nearest-rank definition.

The p-th percentile of n values is the smallest value that at least p % of them do not exceed: the
value of rank ceil(p/100 x n) in ascending order. It is always a value that was measured, and it is
numpy's `method="inverted_cdf"`. No interpolation, no histogram: at a target of 20 ms, buckets of
whole milliseconds would be a step of 5 %.

Source: Hyndman and Fan 1996, "Sample Quantiles in Statistical Packages", definition 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

__all__ = ["describe_ms", "nearest_rank", "rank_of_percentile", "samples_needed"]

QUOTED_PERCENTILES = (50, 90, 95, 99)


def rank_of_percentile(percentile: float, n: int) -> int:
    """Rank, from 1 to n, of the value that is the percentile of n values.

    Args:
        percentile: in (0, 100]; read in decimal, so that 99.9 is exactly 999/1000.
        n: how many values there are, at least 1.

    Raises:
        ValueError: percentile or n out of range.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile {percentile} is not above 0 and at most 100")
    if n < 1:
        raise ValueError(f"{n} values have no percentile; at least 1 is needed")
    return math.ceil(Fraction(str(percentile)) * n / 100)


def nearest_rank(ascending: Sequence[float], percentile: float) -> float:
    """The percentile of values that are sorted in ascending order.

    Raises:
        ValueError: no values, or a percentile out of range.
    """
    return ascending[rank_of_percentile(percentile, len(ascending)) - 1]


def samples_needed(percentile: float) -> int:
    """The smallest n of which the percentile is not simply the largest value, plus that largest.

    100 for p99, 1000 for p99.9: below it, the figure says nothing that the maximum does not.
    """
    return math.ceil(100 / (100 - Fraction(str(percentile))))


def describe_ms(values: Sequence[float]) -> dict[str, float | int | None]:
    """Count, percentiles, maximum and mean of latencies.

    Args:
        values: milliseconds, in any order; may be empty.

    Returns:
        `n`, `p50_ms`, `p90_ms`, `p95_ms`, `p99_ms`, `max_ms`, `mean_ms`, rounded to microseconds;
        None for each but `n` when there are no values.
    """
    names = [f"p{percentile}_ms" for percentile in QUOTED_PERCENTILES]
    if not values:
        return {"n": 0, **dict.fromkeys([*names, "max_ms", "mean_ms"])}
    ascending = sorted(values)
    figures = [nearest_rank(ascending, percentile) for percentile in QUOTED_PERCENTILES]
    figures += [ascending[-1], math.fsum(ascending) / len(ascending)]
    rounded = (round(figure, 3) for figure in figures)
    return {
        "n": len(ascending),
        **dict(zip([*names, "max_ms", "mean_ms"], rounded, strict=True)),
    }

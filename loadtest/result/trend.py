"""Whether latency drifts while the load stays the same: the question of a soak.

Source: Mann 1945 and Kendall 1975 (the test), Theil 1950 and Sen 1968 (the slope).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import Any

from loadtest.generator.outcome import Sample, latencies_of
from loadtest.result.percentiles import nearest_rank

__all__ = ["describe_trend", "kendall_z", "theil_sen"]

WINDOWS = 10
Z_SURE = 1.96


def describe_trend(samples: Sequence[Sample], duration_s: float) -> dict[str, Any]:
    """Latencies of ten equal parts of the measured window, and whether they rise.

    Returns:
        `window_s`; `requests`, `errors`, `p50_ms` and `p99_ms` of each part (None where it has no
        timed request); `p50_slope_ms_per_min`; `z` of the rank test; `rising`, sure at 97.5 %.
    """
    window_s = duration_s / WINDOWS
    parts: list[list[Sample]] = [[] for _ in range(WINDOWS)]
    for sample in samples:
        number = int(sample.planned_s / window_s) if window_s > 0 else 0
        parts[min(max(number, 0), WINDOWS - 1)].append(sample)
    ascending = [sorted(latencies_of(part)["intended"]) for part in parts]
    p50 = [nearest_rank(values, 50) if values else None for values in ascending]
    p99 = [nearest_rank(values, 99) if values else None for values in ascending]
    points = [(n * window_s / 60, value) for n, value in enumerate(p50) if value is not None]
    z = kendall_z([value for _, value in points])
    return {
        "window_s": round(window_s, 3),
        "requests": [len(part) for part in parts],
        "errors": [sum(not sample.outcome.classified for sample in part) for part in parts],
        "p50_ms": [None if value is None else round(value, 3) for value in p50],
        "p99_ms": [None if value is None else round(value, 3) for value in p99],
        "p50_slope_ms_per_min": _rounded(theil_sen(points)),
        "z": _rounded(z),
        "rising": z is not None and z > Z_SURE,
    }


def theil_sen(points: Sequence[tuple[float, float]]) -> float | None:
    """The median of the slopes between all pairs; None below two points."""
    slopes = [(y - x_y) / (x - x_x) for (x_x, x_y), (x, y) in combinations(points, 2) if x != x_x]
    return median(slopes) if slopes else None


def kendall_z(values: Sequence[float]) -> float | None:
    """How many standard deviations more pairs rise than fall, by chance alone; None below 4.

    Normal approximation with the correction for continuity; ties count as neither.
    """
    n = len(values)
    if n < 4:
        return None
    score = sum((b > a) - (b < a) for a, b in combinations(values, 2))
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return math.copysign(max(abs(score) - 1, 0), score) / deviation


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

"""Closed loops with 1, 2, 4, ... clients until throughput grows no more, and the law behind them.

Each step checks itself by Little's law: clients = throughput x time in the system. Where that does
not hold, requests or time were lost in the measurement.

Source: Little 1961, "A proof for the queuing formula L = lambda W".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from loadtest.extras.scaling.usl import fit_usl

__all__ = ["LITTLE_TOLERANCE", "describe_saturation", "saturate"]

GROWTH_THAT_COUNTS = 0.03
LITTLE_TOLERANCE = 0.05


def saturate(
    measure: Callable[[int], dict[str, Any]], *, max_users: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Double the clients until two steps in a row bring less than 3 % more throughput.

    Args:
        measure: runs a closed loop with so many clients and gives its summary.
        max_users: where to end at the latest.

    Returns:
        The summaries, and that of the highest throughput.
    """
    summaries: list[dict[str, Any]] = []
    users, best_rps, idle = 1, 0.0, 0
    while users <= max_users and idle < 2:
        summary = measure(users)
        summaries.append(summary)
        if summary["stopped_by"]:
            break
        rps = float(summary["good_rps"])
        idle = 0 if rps > best_rps * (1 + GROWTH_THAT_COUNTS) else idle + 1
        best_rps, users = max(best_rps, rps), users * 2
    return summaries, max(summaries, key=lambda one: float(one["good_rps"]))


def describe_saturation(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The steps, the fitted law and its knee, ready for JSON.

    Returns:
        `steps`: of each `users`, `good_rps`, `p50_ms`, `p99_ms`, `little` (throughput x mean time,
        over the clients: 1 is exact), `little_held` and `valid`; `usl`: None without three steps,
        else `rate`, `contention`, `coherency`, `r2`, `peak_users`, `peak_rps`, `knee_users`, of
        which None means infinite.
    """
    steps = [_step(summary) for summary in summaries]
    law = fit_usl([(step["users"], step["good_rps"]) for step in steps if step["good_rps"] > 0])
    fitted = None
    if law is not None:
        fitted = {
            "rate": round(law.rate, 3),
            "contention": round(law.contention, 6),
            "coherency": round(law.coherency, 8),
            "r2": round(law.r2, 4),
            "peak_users": _finite(law.peak_users),
            "peak_rps": _finite(law.peak_rps),
            "knee_users": _finite(law.knee_users),
        }
    return {"steps": steps, "usl": fitted}


def _step(summary: dict[str, Any]) -> dict[str, Any]:
    users, mean_ms = summary["users"], summary["service"]["mean_ms"]
    little = summary["achieved_rps"] * mean_ms / 1000 / users if mean_ms else None
    return {
        "users": users,
        "good_rps": summary["good_rps"],
        "p50_ms": summary["service"]["p50_ms"],
        "p99_ms": summary["service"]["p99_ms"],
        "little": None if little is None else round(little, 4),
        "little_held": little is not None and abs(little - 1) <= LITTLE_TOLERANCE,
        "valid": summary["validity"]["valid"],
    }


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None

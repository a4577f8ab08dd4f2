"""The rules by which a measurement is one of the service, and not of the generator.

A run that breaks one is INVALID: its figures are shown, and cannot be used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

__all__ = ["MAX_CAPACITY_SHARE", "judge_validity"]

MIN_LIMIT_MS = 1.0
SHARE_OF_SLO = 0.05
MAX_CPU_SHARE = 0.7
MAX_CAPACITY_SHARE = 0.5
MAX_DOUBLING_CHANGE = 0.1


def judge_validity(summary: dict[str, Any]) -> dict[str, Any]:
    """Hold every rule that applies against a summary.

    Args:
        summary: all of its keys but `validity` and `warnings`.

    Returns:
        `valid`, and `rules`: of each its name, value, limit, whether it `held`, and a sentence.
    """
    rules = [*_timing(summary), *_processor(summary), *_other_runs(summary)]
    return {"valid": all(rule["held"] for rule in rules), "rules": rules}


def _rule(name: str, value: float, limit: float, text: str) -> dict[str, Any]:
    return {"name": name, "value": value, "limit": limit, "held": value <= limit, "text": text}


def _timing(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A send time is a commitment only where each request has its own."""
    if summary["mode"] != "open" or summary["users"] is not None:
        return
    limit_ms = max(MIN_LIMIT_MS, SHARE_OF_SLO * summary.get("slo", {}).get("target_ms", 0.0))
    late_ms = summary["dispatch_lateness"]["p99_ms"]
    if late_ms is not None:
        yield _rule(
            "dispatch_lateness_p99_ms",
            late_ms,
            limit_ms,
            f"The generator sent late: p99 {late_ms:.2f} ms, above {limit_ms:.2f} ms; free its "
            "core, or lower --rate.",
        )
    lags = [g["lag_p99_ms"] for g in summary["generators"] if g["lag_p99_ms"] is not None]
    if lags:
        yield _rule(
            "event_loop_lag_p99_ms",
            max(lags),
            limit_ms,
            f"The generator's event loop woke up late: p99 {max(lags):.2f} ms, above "
            f"{limit_ms:.2f} ms, and replies were noted as late; free its core, or lower --rate.",
        )


def _processor(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    share = summary["generator_cpu_share"]
    yield _rule(
        "generator_cpu_share",
        share,
        MAX_CPU_SHARE,
        f"The generator used {share:.0%} of its core, above {MAX_CPU_SHARE:.0%}: latencies may be "
        "its own; lower the load, or add --workers.",
    )
    faults = Counter[str]()
    for generator in summary["generators"]:
        faults.update(generator.get("faults", {}))  # none in a result of before they were counted
    if faults:
        kinds = ", ".join(f"{number} {name}" for name, number in sorted(faults.items()))
        yield _rule(
            "generator_faults",
            faults.total(),
            0,
            f"{faults.total()} requests were not sent for want of descriptors, ports or memory "
            f"where the generator runs ({kinds}): raise its limits (ulimit -n), or lower the load.",
        )
    lost = summary["lost_workers"]
    yield _rule(
        "lost_workers",
        lost,
        0,
        f"{lost} of {summary['workers']} workers gave no result: what they sent is not known.",
    )


def _other_runs(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    calibration = summary.get("calibration")
    if calibration and calibration["rate_share"] is not None:
        share, capacity = calibration["rate_share"], calibration["capacity_rps"]
        yield _rule(
            "capacity_share",
            share,
            MAX_CAPACITY_SHARE,
            f"The rate is {share:.0%} of the {capacity:.0f} requests/s that the generator manages "
            f"against an empty server, above {MAX_CAPACITY_SHARE:.0%}: add --workers.",
        )
    doubling = summary.get("doubling")
    if doubling and doubling["p99_change"] is not None:
        change = doubling["p99_change"]
        yield _rule(
            "doubling_p99_change",
            abs(change),
            MAX_DOUBLING_CHANGE,
            f"With twice the generators p99 changed by {change:+.0%}, more than "
            f"{MAX_DOUBLING_CHANGE:.0%}: the generator, or noise, is part of the figure.",
        )

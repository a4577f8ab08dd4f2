"""Sentences that say what limits a measurement; each states the figure, the limit and a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadtest.percentiles import samples_needed

__all__ = ["warnings_of"]

MIN_LATENESS_LIMIT_MS = 1.0
LATENESS_SHARE_OF_SLO = 0.05
MAX_GENERATOR_CPU_SHARE = 0.7
MIN_ACHIEVED_SHARE = 0.99


def warnings_of(summary: dict[str, Any]) -> list[str]:
    """Every warning that a summary deserves; none is the sign of a sound run.

    Args:
        summary: all of its keys but `warnings`.
    """
    return [*_on_the_run(summary), *_on_the_generator(summary), *_on_the_service(summary)]


def _on_the_run(summary: dict[str, Any]) -> Iterator[str]:
    if summary["stopped_by"]:
        yield (
            f"Stopped by {summary['stopped_by']} after {summary['duration_s']:g} s; "
            f"{summary['abandoned']} requests in flight were given up and left out."
        )
    percentile = max(99.0, summary.get("slo", {}).get("percentile", 99.0))
    n, needed = summary["intended"]["n"], samples_needed(percentile)
    if n < needed:
        yield (
            f"{n} timed requests are too few for a p{percentile:g}: {needed} or more are needed; "
            "raise --duration-s."
        )
    if summary["mode"] == "closed" and "slo" in summary:
        yield (
            "A closed loop waits for the service, so it hides what queueing costs; judge an "
            "objective with --mode open."
        )


def _on_the_generator(summary: dict[str, Any]) -> Iterator[str]:
    limit_ms = max(
        MIN_LATENESS_LIMIT_MS,
        LATENESS_SHARE_OF_SLO * summary.get("slo", {}).get("target_ms", 0.0),
    )
    lateness_ms = summary["dispatch_lateness"]["p99_ms"]
    if lateness_ms is not None and lateness_ms > limit_ms:
        yield (
            f"The generator sent late: p99 {lateness_ms:.2f} ms, above {limit_ms:.2f} ms; free its "
            "core, or lower --rate."
        )
    if summary["generator_cpu_share"] > MAX_GENERATOR_CPU_SHARE:
        yield (
            f"The generator used {summary['generator_cpu_share']:.0%} of its core, above "
            f"{MAX_GENERATOR_CPU_SHARE:.0%}: latencies may be its own; lower the load."
        )


def _on_the_service(summary: dict[str, Any]) -> Iterator[str]:
    counts, planned = summary["counts"], summary["planned"]
    short = (summary["planned_rps"] - summary["achieved_rps"]) * summary["duration_s"]
    # One late reply at the end of a short run is no shortfall.
    if short > max((1 - MIN_ACHIEVED_SHARE) * planned, 1.5):
        yield (
            f"Achieved {summary['achieved_rps']:.1f} of {summary['planned_rps']:.1f} planned "
            "requests/s: the service did not keep up, or requests failed."
        )
    failed = {name: number for name, number in counts.items() if name not in ("ok", "wrong_answer")}
    if any(failed.values()):
        kinds = ", ".join(f"{number} {name}" for name, number in failed.items() if number)
        yield f"{sum(failed.values())} of {planned} requests failed: {kinds}."
    for example in summary["answers"]["examples"][:1]:
        answer = repr(example["answer"]) if example["answer"] else "no classification"
        expected = f" instead of {example['expected']!r}" if example["expected"] else ""
        yield (
            f"Wrong answers: {summary['answers']['wrong']}; the first: {example['path']} gave "
            f"{answer}{expected} (request {example['request_id'] or 'without an id'})."
        )
    if len(summary["models"]) > 1:
        yield f"{len(summary['models'])} different models or backends answered during the run."

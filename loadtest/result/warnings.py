"""Sentences that say what limits a measurement; each states the figure, the limit and a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadtest.result.percentiles import samples_needed

__all__ = ["warnings_of"]

MAX_PEAK_CPU_SHARE = 0.9
MIN_ACHIEVED_SHARE = 0.99
STEADY_SCENARIOS = ("server", "constant", "soak")


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
    for rule in summary["validity"]["rules"]:
        if not rule["held"]:
            yield rule["text"]
    for generator in summary["generators"]:
        peak = generator["cpu_peak_share"]
        if peak > MAX_PEAK_CPU_SHARE >= summary["generator_cpu_share"]:
            yield f"A generator used {peak:.0%} of its core for a second: see its worst latencies."
    caching = summary["caching"]
    if caching and caching["cached"]:
        yield (
            f"Repeated images took {caching['ratio']:.2f} of their first time (95 % interval "
            f"{caching['low']:.2f} to {caching['high']:.2f}): the service caches predictions."
        )
    elif caching and caching["ratio"] is None:
        yield (
            f"{caching['pairs']} images were sent twice: too few to see a cache; raise "
            "--duration-s, or give a larger corpus."
        )


def _on_the_service(summary: dict[str, Any]) -> Iterator[str]:
    counts, planned = summary["counts"], summary["planned"]
    short = (summary["planned_rps"] - summary["achieved_rps"]) * summary["duration_s"]
    # One late reply at the end of a short run is not a shortfall.
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
        prediction = repr(example["answer"]) if example["answer"] else "no classification"
        expected = f" instead of {example['expected']!r}" if example["expected"] else ""
        yield (
            f"Wrong predictions: {summary['answers']['wrong']}; the first: {example['path']} gave "
            f"{prediction}{expected} (request {example['request_id'] or 'without an id'})."
        )
    if len(summary["models"]) > 1:
        yield f"{len(summary['models'])} different models or backends answered during the run."
    trend = summary["trend"]
    if trend["rising"] and summary["scenario"] in STEADY_SCENARIOS:
        yield (
            f"Latency rose during the run: p50 by {trend['p50_slope_ms_per_min']:.2f} ms a minute; "
            "the service does not keep up, or something in it grows."
        )

"""The summary and the progress as text, in lines of at most 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import Any, TextIO

from loadtest.generator.outcome import Tally
from loadtest.result.verdict import Status, reasons_of, status_of, status_of_slo, status_of_step

__all__ = ["LoadProgress", "text_from_summary"]

WIDTH = 80
PLAIN_LINE_EVERY_S = 5.0


class LoadProgress:
    """One line about the running load: rewritten each second, or a new one each 5 s in a log file.

    Args:
        stream: where it goes; asked once whether it is a terminal. None shows nothing.
        total_s: the length of the measured window.
    """

    def __init__(self, stream: TextIO | None, *, total_s: float) -> None:
        self._stream = stream
        self._total_s = total_s
        self._is_terminal = stream is not None and stream.isatty()
        self._next_line_s = -math.inf

    def __call__(self, log: Tally, now_s: float) -> None:
        """Show where the load stands.

        Args:
            log: of the running load.
            now_s: seconds from the start of the measured window; below 0 during the warm-up.
        """
        if self._stream is None:
            return
        line = progress_line(log, now_s, self._total_s)
        if self._is_terminal:
            self._stream.write(f"\r{line[: WIDTH - 1]:<{WIDTH - 1}}")
        elif now_s >= self._next_line_s:
            self._next_line_s = (now_s // PLAIN_LINE_EVERY_S + 1) * PLAIN_LINE_EVERY_S
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the last line standing."""
        if self._stream is not None and self._is_terminal:
            self._stream.write("\n")


def progress_line(log: Tally, now_s: float, total_s: float) -> str:
    """The line itself, below 80 columns for counts below a million."""
    where = f"{min(now_s, total_s):.0f}/{total_s:.0f} s" if now_s >= 0 else "warm-up"
    missed = f"  missed {log.missed}" if log.missed else ""
    return (
        f"{where}  sent {log.sent}  ok {log.ok}  failed {log.failed}"
        f"  waiting {log.in_flight}{missed}"
    )


def text_from_summary(summary: dict[str, Any]) -> str:
    """What a person wants to know, the verdict last."""
    return "\n".join(
        [
            *_requests(summary),
            "",
            *_latency_table(summary),
            "",
            *_service(summary),
            *_saturation(summary),
            *_generators(summary),
            *_slo(summary),
            *_warnings(summary),
            *_verdict(summary),
        ]
    )


def _requests(summary: dict[str, Any]) -> Iterator[str]:
    counts = [f"{number} {name}" for name, number in summary["counts"].items() if number]
    yield from _field("scenario", summary["scenario"])
    yield from _field("requests", f"{summary['planned']} planned: {', '.join(counts) or 'none'}")
    target = summary["target_rps"]
    offered = f"target {target:g} on average, " if target else ""
    if summary["users"]:
        offered = f"{summary['users']} user{'s' if summary['users'] > 1 else ''}, "
    yield from _field(
        "requests/s",
        f"{offered}planned {summary['planned_rps']:.1f}, "
        f"achieved {summary['achieved_rps']:.1f}, good {summary['good_rps']:.1f}",
    )


def _latency_table(summary: dict[str, Any]) -> Iterator[str]:
    columns = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms")
    yield f"{'latency, ms':<13}" + "".join(f"{c.removesuffix('_ms'):>10}" for c in columns)
    kinds = ("intended", "service") if summary["mode"] == "open" else ("service",)
    for kind in kinds:
        yield f"  {kind:<11}" + "".join(f"{_number(summary[kind][c]):>10}" for c in columns)
    late = summary["dispatch_lateness"]
    if summary["mode"] == "open":
        yield f"  {'sent late':<11}" + "".join(f"{_number(late.get(c)):>10}" for c in columns)


def _service(summary: dict[str, Any]) -> Iterator[str]:
    stages = [
        f"{name.removesuffix('_ms')} {mean:.1f}"
        for name, mean in summary["stage_means_ms"].items()
        if mean is not None
    ]
    if stages:
        yield from _field("stages, ms", f"mean {', '.join(stages)} (as the service reports)")
    predictions, corpus = summary["answers"], summary["corpus"]
    checked = f"{predictions['checked']} checked, {predictions['wrong']} wrong"
    if not corpus["with_expected"] and not predictions["wrong"]:
        checked = "not checked, the corpus states none"
    yield from _field("predictions", checked)
    yield from _field("corpus", f"{corpus['images']} images, {corpus['bytes'] / 1e6:.1f} MB")
    for model in summary["models"]:
        digest = model["digest"].removeprefix("sha256:")[:12]
        name = f"{model['name']} {model['version']}"
        yield from _field("model", f"{name}, digest {digest}, {model['backend']}")
    caching = summary["caching"]
    if caching and caching["ratio"] is not None:
        yield from _field(
            "repeats",
            f"{caching['ratio']:.2f} of the first time ({caching['low']:.2f} to "
            f"{caching['high']:.2f}, 95 %, {caching['pairs']} images)",
        )


def _generators(summary: dict[str, Any]) -> Iterator[str]:
    environment, number = summary["environment"], summary["workers"]
    each = "" if number == 1 else f"{number} processes, the busiest "
    yield from _field(
        "generator",
        f"{each}{summary['generator_cpu_share']:.0%} of one core of {environment['cpu_count']}, "
        f"{environment['cpu_model']}",
    )
    service = summary.get("service_process")
    if service:
        cores = ", ".join(map(str, service["pinned_cores"])) or "all"
        yield from _field(
            "service",
            f"cores {cores}; CPU {service['cpu_mean_share'] or 0:.2f} cores, "
            f"memory {service['rss_peak_mib'] or 0:.0f} MiB at most",
        )
    calibration = summary.get("calibration")
    if calibration:
        late = calibration["lateness_p99_ms"]
        sent = "" if late is None else f", sent late p99 {late:.2f} ms"
        yield from _field("alone", f"{calibration['capacity_rps']:.0f} requests/s{sent}")
    doubling = summary.get("doubling")
    if doubling and doubling["p99_change"] is not None:
        yield from _field("doubled", f"p99 {doubling['p99_change']:+.0%}")


def _saturation(summary: dict[str, Any]) -> Iterator[str]:
    if "saturation" not in summary:
        return
    for step in summary["saturation"]["steps"]:
        users = f"{step['users']} user{'s' if step['users'] > 1 else ''}"
        yield from _field(
            users,
            f"{step['good_rps']:.1f} requests/s, p50 {_number(step['p50_ms'])} ms, "
            f"p99 {_number(step['p99_ms'])} ms, {status_of_step(step)}",
        )
    law = summary["saturation"]["usl"]
    if law is not None:
        peak = "infinite" if law["peak_rps"] is None else f"{law['peak_rps']:.1f} requests/s"
        knee = "none" if law["knee_users"] is None else f"{law['knee_users']:.1f} users"
        yield from _field(
            "scaling",
            f"peak {peak}, knee at {knee} (contention {law['contention']:.3f}, coherency "
            f"{law['coherency']:.5f}, R2 {law['r2']:.3f})",
        )


def _slo(summary: dict[str, Any]) -> Iterator[str]:
    if "slo" not in summary:
        return
    slo = summary["slo"]
    name = f"p{slo['percentile']:g}"
    observed = slo["observed_ms"]
    seen = f"{observed:.1f} ms" if observed is not None else "unbounded: too many failed"
    verdict = status_of_slo(summary).upper()
    few = f"; {summary['planned']} requests, {slo['needed']} needed" if slo["met"] is None else ""
    yield from _field(
        "SLO", f"{name} <= {slo['target_ms']:g} ms: {verdict} (intended {name} is {seen}{few})"
    )


def _warnings(summary: dict[str, Any]) -> Iterator[str]:
    for warning in summary["warnings"]:
        yield from _field("warning", warning)


def _verdict(summary: dict[str, Any]) -> Iterator[str]:
    status = status_of(summary)
    said = " ".join(reasons_of(summary))
    if status is Status.INVALID:
        broken = [rule["name"] for rule in summary["validity"]["rules"] if not rule["held"]]
        said = f"the figures cannot be used: {', '.join(broken)}"
    if status is Status.PASSED:
        said = "the objective is met" if "slo" in summary else "measured; no objective was set"
    yield from _field(status.upper(), said)


def _field(name: str, value: str) -> list[str]:
    return textwrap.wrap(
        value,
        WIDTH,
        initial_indent=f"{name:<13}",
        subsequent_indent=" " * 13,
        break_on_hyphens=False,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"

"""The summary and the progress as text, in lines of at most 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import Any, TextIO

from loadtest.outcome import SampleLog

__all__ = ["Progress", "text_from_summary"]

WIDTH = 80
PLAIN_LINE_EVERY_S = 5.0


class Progress:
    """One line about the running load: rewritten each second, or a new one each 5 s in a log file.

    Args:
        stream: where it goes; asked once whether it is a terminal.
        total_s: the length of the measured window.
    """

    def __init__(self, stream: TextIO, *, total_s: float) -> None:
        self._stream = stream
        self._total_s = total_s
        self._is_terminal = stream.isatty()
        self._next_line_s = -math.inf

    def __call__(self, log: SampleLog, now_s: float) -> None:
        """Show where the load stands.

        Args:
            log: of the running load.
            now_s: seconds from the start of the measured window; below 0 during the warm-up.
        """
        line = progress_line(log, now_s, self._total_s)
        if self._is_terminal:
            self._stream.write(f"\r{line[: WIDTH - 1]:<{WIDTH - 1}}")
        elif now_s >= self._next_line_s:
            self._next_line_s = (now_s // PLAIN_LINE_EVERY_S + 1) * PLAIN_LINE_EVERY_S
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the last line standing."""
        if self._is_terminal:
            self._stream.write("\n")


def progress_line(log: SampleLog, now_s: float, total_s: float) -> str:
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
            *_slo(summary),
            *_warnings(summary),
        ]
    )


def _requests(summary: dict[str, Any]) -> Iterator[str]:
    counts = [f"{number} {name}" for name, number in summary["counts"].items() if number]
    yield from _field("requests", f"{summary['planned']} planned: {', '.join(counts) or 'none'}")
    target = summary["target_rps"]
    offered = f"target {target:g} on average, " if target else f"{summary['users']} users, "
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
    answers, corpus = summary["answers"], summary["corpus"]
    checked = f"{answers['checked']} checked, {answers['wrong']} wrong"
    if not corpus["with_expected"] and not answers["wrong"]:
        checked = "not checked, the corpus states none"
    yield from _field("answers", checked)
    yield from _field("corpus", f"{corpus['images']} images, {corpus['bytes'] / 1e6:.1f} MB")
    for model in summary["models"]:
        digest = model["digest"].removeprefix("sha256:")[:12]
        name = f"{model['name']} {model['version']}"
        yield from _field("model", f"{name}, digest {digest}, {model['backend']}")
    environment = summary["environment"]
    yield from _field(
        "generator",
        f"{summary['generator_cpu_share']:.0%} of one core of {environment['cpu_count']}, "
        f"{environment['cpu_model']}",
    )


def _slo(summary: dict[str, Any]) -> Iterator[str]:
    if "slo" not in summary:
        return
    slo = summary["slo"]
    name = f"p{slo['percentile']:g}"
    observed = slo["observed_ms"]
    seen = f"{observed:.1f} ms" if observed is not None else "unbounded: too many failed"
    verdict = {True: "MET", False: "MISSED", None: "NOT JUDGED"}[slo["met"]]
    few = f"; {summary['planned']} requests, {slo['needed']} needed" if slo["met"] is None else ""
    yield from _field(
        "SLO", f"{name} <= {slo['target_ms']:g} ms: {verdict} (intended {name} is {seen}{few})"
    )


def _warnings(summary: dict[str, Any]) -> Iterator[str]:
    for warning in summary["warnings"]:
        yield from _field("warning", warning)


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

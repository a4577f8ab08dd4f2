"""The charts of the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from loadtest.report.figures import SampleRow, Second
from loadtest.report.scales import linear, logarithmic, nines
from loadtest.report.svg import Chart

__all__ = [
    "draw_heat",
    "draw_percentiles",
    "draw_probes",
    "draw_processes",
    "draw_rates",
    "draw_saturation",
]

MAX_POINTS = 600
HEAT_COLUMNS, HEAT_ROWS = 60, 28


def draw_percentiles(
    rows: Sequence[SampleRow], slo: dict[str, Any] | None, *, is_open: bool
) -> str:
    """Latency over the percentile; the last nines, which averages hide, have their own room."""
    curves = [("intended", _ascending(r.intended_ms for r in rows if r.replied))]
    if is_open:
        curves.append(("service", _ascending(r.service_ms for r in rows if r.replied)))
    values = [value for _, curve in curves for value in (curve[0], curve[-1])]
    if slo:
        values.append(slo["target_ms"])
    chart = Chart(
        "Latency over its percentile",
        nines(len(curves[0][1])),
        logarithmic(min(values), max(values)),
        x_title="percentile; each nine has the same width",
        y_title="ms",
    )
    for kind, curve in curves:
        chart.line(_curve(curve), kind)
    if slo:
        chart.level(slo["target_ms"], f"p{slo['percentile']:g} objective")
    if is_open:
        chart.legend([("intended", "from the intended time"), ("service", "from the sending")])
    return chart.text()


def draw_heat(
    rows: Sequence[SampleRow], duration_s: float, slo: dict[str, Any] | None, *, is_open: bool
) -> str:
    """Where latencies lie over time: a queue that grows climbs, a pause is a slanted wall."""
    placed = [(r.planned_s, r.intended_ms) for r in rows if r.replied and r.intended_ms]
    values = [value for _, value in placed] + ([slo["target_ms"]] if slo else [])
    low, high = math.log(min(values)), math.log(max(values) * 1.0001)
    height = (high - low) / HEAT_ROWS or 1.0
    width = duration_s / HEAT_COLUMNS
    counted = Counter(
        (int(time // width), min(HEAT_ROWS - 1, int((math.log(value) - low) // height)))
        for time, value in placed
    )
    chart = Chart(
        "Requests by time and latency",
        linear(duration_s, rounded=False),
        logarithmic(min(values), max(values)),
        x_title="intended time of sending, s" if is_open else "time of sending, s",
        y_title="intended latency, ms" if is_open else "latency, ms",
    )
    most = max(counted.values())
    for (column, row), number in sorted(counted.items()):
        times = (column * width, (column + 1) * width)
        edges = (math.exp(low + row * height), math.exp(low + (row + 1) * height))
        chart.cell(times, edges, math.sqrt(number / most))
    if slo:
        chart.level(slo["target_ms"], f"p{slo['percentile']:g} objective")
    return chart.text()


def draw_rates(seconds: Sequence[Second], *, is_open: bool) -> str:
    """Requests due (in a closed loop nothing is), answered and answered well, per second."""
    end = seconds[-1].start_s + seconds[-1].width_s
    kinds = [
        ("planned", "due", [s.planned / s.width_s for s in seconds]),
        ("replied", "answered", [s.replied / s.width_s for s in seconds]),
        ("good", "answered well", [s.good / s.width_s for s in seconds]),
    ]
    kinds = kinds if is_open else kinds[1:]
    chart = Chart(
        "Requests a second over time",
        linear(end, rounded=False),
        linear(max(1.0, *(value for _, _, values in kinds for value in values))),
        x_title="s",
        y_title="requests a second",
        height=260,
    )
    for kind, _, values in kinds:
        chart.line(_steps(seconds, values), kind)
    chart.legend([(kind, words) for kind, words, _ in kinds])
    return chart.text()


def draw_processes(
    label: str, unit: str, lines: Sequence[tuple[str, str, Sequence[float], Sequence[float]]]
) -> str:
    """What processes used over time.

    Args:
        label: of what.
        unit: of the values.
        lines: of each process its class, words, times in seconds, and values.
    """
    chart = Chart(
        f"{label} over time",
        linear(max(max(times) for _, _, times, _ in lines), rounded=False),
        linear(max(max(values) for _, _, _, values in lines)),
        x_title="s",
        y_title=unit,
        height=220,
    )
    for kind, _, times, values in lines:
        chart.line(zip(times, values, strict=True), kind)
    chart.legend(list(dict.fromkeys((kind, words) for kind, words, _, _ in lines)))
    return chart.text()


def draw_saturation(steps: Sequence[dict[str, Any]]) -> str:
    """Latency over the rate that ever more clients reach: it climbs where the rate no longer does.

    Args:
        steps: of each `users`, `good_rps`, `p50_ms` and `p99_ms`, which may be None.
    """
    answered = [step for step in steps if step["p50_ms"] and step["p99_ms"]]
    chart = Chart(
        "Latency over the rate reached",
        linear(max(step["good_rps"] for step in answered)),
        logarithmic(
            min(step["p50_ms"] for step in answered), max(step["p99_ms"] for step in answered)
        ),
        x_title="good replies a second",
        y_title="ms",
    )
    for name, kind in (("p50", "intended"), ("p99", "service")):
        places = [(step["good_rps"], step[f"{name}_ms"], step["users"]) for step in answered]
        chart.line([(rate, value) for rate, value, _ in places], kind)
        for rate, value, users in places:
            said = f"{users} clients: {rate:.1f}/s, {name} {value:.1f} ms"
            chart.point(rate, value, kind, said)
            if name == "p99":
                chart.note(rate, value, f"{users}")
    chart.legend([("intended", "p50"), ("service", "p99, with the number of clients")])
    return chart.text()


def draw_probes(probes: Sequence[dict[str, Any]], slo: dict[str, Any]) -> str:
    """The percentile of each probe over its rate, with the objective.

    Args:
        probes: of each `rate`, `observed_ms` (None where it is not a number) and `verdict`.
        slo: `percentile` and `target_ms`.
    """
    values = [p["observed_ms"] for p in probes if p["observed_ms"]] + [slo["target_ms"]]
    rates = [probe["rate"] for probe in probes]
    name = f"p{slo['percentile']:g}"
    chart = Chart(
        f"{name} over the rate offered",
        logarithmic(min(rates) / 1.05, max(rates) * 1.05),
        logarithmic(min(values) / 1.05, max(values) * 1.05),
        x_title="requests a second",
        y_title=f"{name}, ms",
    )
    chart.level(slo["target_ms"], f"{name} <= {slo['target_ms']:g} ms")
    for number, probe in enumerate(probes, 1):
        seen = probe["observed_ms"]
        words = f"{seen:.1f} ms" if seen else "no answer"
        said = f"{number}: {probe['rate']:.1f}/s, {name} {words}, {probe['verdict']}"
        chart.point(probe["rate"], seen or max(values) * 1.05, probe["verdict"], said)
    return chart.text()


def _ascending(values: Iterator[float | None] | Any) -> list[float]:
    return sorted(value for value in values if value is not None)


def _curve(ascending: Sequence[float]) -> Iterator[tuple[float, float]]:
    """(percentile, value), thinned where neighbours would fall on one another."""
    n, last = len(ascending), -1.0
    for rank, value in enumerate(ascending):
        place = -math.log10(1 - rank / n)
        if place - last >= math.log10(max(n, 2)) / MAX_POINTS or rank == n - 1:
            last = place
            yield 100 * rank / n, value
    yield 100 * (1 - 0.1 / n), ascending[-1]


def _steps(seconds: Sequence[Second], values: Sequence[float]) -> Iterator[tuple[float, float]]:
    for one, value in zip(seconds, values, strict=True):
        yield one.start_s, value
        yield one.start_s + one.width_s, value

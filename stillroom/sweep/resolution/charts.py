"""Top-1 over the test size, and over what it costs, a line for each training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from stillroom.page.charts.drawing import AMBER, BLUE, GREEN, RED, drawing, inline_svg, plain
from stillroom.sweep.resolution.facts import SizeResult
from stillroom.sweep.search.charts import legend_above, percent_axis
from stillroom.sweep.speed import cost_axis

__all__ = ["STYLES", "draw_by_latency", "draw_by_size"]

WIDTH, HEIGHT = 420, 290
# Shape as well as colour: lines are told apart in grey, too.
STYLES: list[dict[str, Any]] = [
    {"color": colour, "marker": marker, "linestyle": line}
    for line in ("-", (0, (4, 2)), ":")
    for colour, marker in ((BLUE, "o"), (RED, "s"), (GREEN, "^"), (AMBER, "D"))
]


def draw_by_size(entries: Sequence[SizeResult]) -> Markup:
    """Val top-1 over the test size; a ring where it equals the train size."""
    with drawing(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        for (label, group), style in zip(_lines(entries), STYLES * 9, strict=False):
            sizes = [entry.place.test_size_px for entry in group]
            axes.plot(sizes, _top1(group), label=label, markersize=4.5, **style)
            for entry in group:
                if entry.place.ratio == 1:
                    point = (entry.place.test_size_px, entry.figures["top1"])
                    axes.plot(
                        *point, marker="o", markersize=11, fillstyle="none", color=style["color"]
                    )
        axes.set_xticks(sorted({entry.place.test_size_px for entry in entries}))
        _finish(axes, "test size, px")
        return inline_svg(figure, name="by-size", label="Val top-1 over the test size")


def draw_by_latency(entries: Sequence[SizeResult]) -> Markup:
    """Val top-1 over the latency of one image."""
    with drawing(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        for (label, group), style in zip(_lines(entries), STYLES * 9, strict=False):
            axes.plot(_latency(group), _top1(group), label=label, markersize=4.5, **style)
        cost_axis(axes, _latency(entries))
        _finish(axes, "latency, ms")
        return inline_svg(figure, name="by-latency", label="Val top-1 over the latency")


def _lines(entries: Sequence[SizeResult]) -> list[tuple[str, list[SizeResult]]]:
    """Entries of one training each, with its name."""
    lines = []
    for _, group in groupby(entries, key=lambda entry: entry.place.number):
        members = list(group)
        place = members[0].place
        width = f", width {place.width}" if place.width else ""
        lines.append((f"trained at {place.train_size_px}{width}", members))
    return lines


def _finish(axes: Axes, x: str) -> None:
    percent_axis(axes)
    plain(axes, x=x, title="val top-1")
    legend_above(axes)


def _top1(entries: Sequence[SizeResult]) -> list[float]:
    return [entry.figures["top1"] for entry in entries]


def _latency(entries: Sequence[SizeResult]) -> list[float]:
    return [entry.latency["median_ms"] for entry in entries]

"""Charts of a search: its history, what mattered, and each key alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from stillroom.page.charts.drawing import BLUE, RED, SOFT, drawing, inline_svg, plain
from stillroom.sweep.search.facts import TrialRow
from stillroom.sweep.search.space import Choices, Dimension

__all__ = ["draw_history", "draw_importances", "draw_slice", "legend_above", "percent_axis"]

WIDTH, HEIGHT = 420, 260
MAX_BARS = 10


def percent_axis(axes: Axes, ticks: int = 5) -> None:
    """Label the vertical axis in per cent."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.yaxis.set_major_locator(MaxNLocator(ticks))


def legend_above(axes: Axes, columns: int = 2) -> None:
    """A legend to the right of the title, where it covers no point."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=columns,
        borderaxespad=0.1,
        handlelength=1.8,
        columnspacing=1.0,
    )


def draw_history(rows: Sequence[TrialRow]) -> Markup:
    """Val top-1 of each trial, pruned ones as crosses, and the best so far."""
    done = [(row.number, row.outcome.top1) for row in rows if row.outcome is not None]
    pruned = [
        (row.number, row.last_top1)
        for row in rows
        if row.state == "pruned" and row.last_top1 is not None
    ]
    best = [max(top1 for _, top1 in done[: i + 1]) for i in range(len(done))]
    with drawing(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        axes.step([number for number, _ in done], best, where="post", color=BLUE, label="best")
        x, y = zip(*done, strict=True)
        axes.scatter(x, y, s=22, color=BLUE, label="complete", zorder=3)
        if pruned:
            x, y = zip(*pruned, strict=True)
            axes.scatter(x, y, s=26, marker="x", color=RED, label="pruned")
        percent_axis(axes)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        plain(axes, x="trial", title="val top-1")
        legend_above(axes, 3)
        return inline_svg(figure, name="history", label="Val top-1 of each trial")


def draw_importances(importances: dict[str, float]) -> Markup:
    """A bar for each key, the most important at the top."""
    shown = list(importances.items())[:MAX_BARS][::-1]
    names = [key.removeprefix("teacher.") for key, _ in shown]
    with drawing(WIDTH, 70 + 26 * len(shown)) as figure:
        axes = figure.subplots()
        bars = axes.barh(names, [share for _, share in shown], color=BLUE, height=0.6)
        axes.bar_label(bars, [f"{share:.0%}" for _, share in shown], padding=4, color=SOFT)
        axes.set_xlim(0, 1.15 * max(share for _, share in shown))
        axes.xaxis.set_major_locator(NullLocator())
        axes.grid(visible=False)
        plain(axes, title="importance of each key")
        axes.tick_params(axis="y", labelcolor=SOFT)
        return inline_svg(figure, name="importances", label="Importance of each key")


def draw_slice(rows: Sequence[TrialRow], key: str, dimension: Dimension, number: int) -> Markup:
    """Val top-1 against the values of one key."""
    pairs = [(row.values[key], row.outcome.top1) for row in rows if row.outcome is not None]
    with drawing(252, 200) as figure:
        axes = figure.subplots()
        if isinstance(dimension, Choices):
            places = [dimension.values.index(value) for value, _ in pairs]
            axes.scatter(places, [top1 for _, top1 in pairs], s=20, color=BLUE, alpha=0.7)
            labels = [_cut(str(value)) for value in dimension.values]
            axes.set_xticks(range(len(labels)), labels)
            axes.set_xlim(-0.5, len(labels) - 0.5)
        else:
            values = [float(value) for value, _ in pairs]
            axes.scatter(values, [top1 for _, top1 in pairs], s=20, color=BLUE, alpha=0.7)
            if dimension.log:
                axes.set_xscale("log")
                if math.log10(dimension.high / dimension.low) < 2:
                    axes.set_xticks([dimension.low, dimension.high])
                    axes.xaxis.set_minor_locator(NullLocator())
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            else:
                axes.xaxis.set_major_locator(MaxNLocator(4))
        percent_axis(axes, 4)
        plain(axes, title=key.removeprefix("teacher."))
        return inline_svg(figure, name=f"slice-{number}", label=f"Val top-1 against {key}")


def _cut(text: str) -> str:
    return text if len(text) <= 9 else f"{text[:8]}…"

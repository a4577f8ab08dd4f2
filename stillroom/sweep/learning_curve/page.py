"""The page of a learning curve."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, NullLocator

from stillroom.page.charts.drawing import BLUE, RED, SOFT, drawing, inline_svg, plain
from stillroom.page.format import count, interval, number, percent, points
from stillroom.sweep.learning_curve.facts import Curve
from stillroom.sweep.page import Tile, render, top1_cell, whisker_start
from stillroom.sweep.search.charts import legend_above, percent_axis
from stillroom.sweep.subject import StudyData

__all__ = ["draw_curve", "render_curve"]


def render_curve(curve: Curve, subject: StudyData, name: str, equal: str) -> str:
    """The page's text."""
    start = whisker_start([level.top1.low for level in curve.levels])
    return render(
        "sweep_curve.html.j2",
        subject,
        title=name,
        kind="learning-curve",
        sentences=curve.sentences(),
        tiles=_tiles(curve),
        curve=curve,
        equal=equal,
        epochs=subject.recipe.teacher.epochs,
        arch=subject.recipe.teacher.arch,
        plot=draw_curve(curve),
        start=start,
        rows=[
            (level, top1_cell(level.top1.value, level.top1.low, level.top1.high, start))
            for level in curve.levels
        ],
    )


def draw_curve(curve: Curve) -> Markup:
    """Seeds as dots, means with intervals, the fit with its band, dashed beyond the data."""
    counts = np.array([level.photos for level in curve.levels], dtype=np.float64)
    grid = np.geomspace(counts[0], 2 * counts[-1], 60)
    low, high = np.percentile(1 - curve.resampled.error(grid), [2.5, 97.5], axis=0)
    fitted = 1 - curve.fit.error(grid)[0]
    known = grid <= counts[-1] * 1.0001
    with drawing(520, 320) as figure:
        axes = figure.subplots()
        axes.fill_between(grid, low, high, color=BLUE, alpha=0.14, linewidth=0)
        axes.plot(grid[known], fitted[known], color=BLUE, label="power law")
        axes.plot(grid[~known], fitted[~known], color=BLUE, linestyle=(0, (3, 2)))
        for level in curve.levels:
            places = np.full(len(level.seeds), level.photos)
            axes.scatter(places, level.seeds, s=12, color=SOFT, label="", zorder=3)
            axes.vlines(level.photos, level.top1.low, level.top1.high, color=RED, linewidth=1.6)
            axes.plot(level.photos, level.top1.value, marker="s", markersize=6, color=RED)
        axes.plot([], [], marker="s", color=RED, label="mean of the seeds")
        axes.plot([], [], marker="o", markersize=3.5, linestyle="", color=SOFT, label="a seed")
        axes.set_xscale("log")
        ticks = [*counts, 2 * counts[-1]]
        axes.set_xticks(ticks)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.axvline(counts[-1], color=SOFT, linewidth=1, linestyle=":")
        percent_axis(axes)
        plain(axes, x="training images (logarithmic), the last one twice what there is")
        axes.set_title("val top-1")
        legend_above(axes, 3)
        return inline_svg(figure, name="curve", label="Val top-1 over training images")


def _tiles(curve: Curve) -> list[Tile]:
    full, gain, doubled = curve.levels[-1], curve.gain, curve.doubled
    fit = curve.fit
    spread = f"{points(gain.low)} to {points(gain.high)} points"
    law = f"exponent {number(float(fit.exponent[0]), 2)}"
    return [
        ("more images help?", curve.answer, "twice as many"),
        ("gain of twice as many", f"{points(gain.value)} points", spread),
        (
            "val top-1 now",
            percent(full.top1.value),
            f"{interval(full.top1.low, full.top1.high)}, n = {curve.n}",
        ),
        ("expected then", percent(doubled.value), interval(doubled.low, doubled.high)),
        ("error that stays", percent(float(fit.floor[0])), law),
    ]

"""The reliability diagram: how often answers of a given confidence are right."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, NullLocator

from stillroom.page.charts.drawing import AMBER, BLUE, SOFT, drawing, inline_svg, plain
from stillroom.report.mistakes import Bin

__all__ = ["draw_reliability"]


def draw_reliability(bins: list[Bin], *, name: str) -> Markup:
    """Share right over mean confidence with 95 % intervals, and how many each bin holds."""
    confidence = np.array([b.confidence for b in bins])
    right = np.array([b.right for b in bins])
    reach = np.array([[b.right - b.low for b in bins], [b.high - b.right for b in bins]])
    with drawing(430, 390) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=":")
        upper.errorbar(
            confidence,
            right,
            yerr=reach.clip(0),
            fmt="o",
            color=BLUE,
            markersize=5,
            elinewidth=1.2,
            capsize=0,
        )
        upper.set_ylim(-0.03, 1.03)
        upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        lower.bar(confidence, [b.n for b in bins], width=0.035, color=AMBER)
        lower.set_yscale("log")
        lower.set_ylim(bottom=0.7)
        lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        lower.yaxis.set_minor_locator(NullLocator())
        lower.set_xlim(-0.03, 1.03)
        lower.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        plain(upper, title="answered right")
        plain(lower, x="confidence of the prediction", title="predictions")
        return inline_svg(figure, name=name, label="Reliability diagram")

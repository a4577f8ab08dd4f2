"""One fraction with its interval, small enough for a cell of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable

from markupsafe import Markup

from stillroom.page.charts.svg import svg, tag

__all__ = ["draw_whisker", "scale_from"]

WIDTH = 150.0
HEIGHT = 18.0
MARGIN = 6.0


def scale_from(lows: Iterable[float]) -> float:
    """Where an axis up to 1 begins, so that every interval is on it: at a whole tenth below 1."""
    lowest = min(lows, default=0.0)
    return min(0.9, math.floor(10 * lowest + 1e-9) / 10)


def draw_whisker(value: float, low: float, high: float, *, start: float, label: str) -> Markup:
    """A dot and its interval on an axis from `start` to 1, with a line at every tenth.

    Args:
        value: the fraction.
        low: lower end of its interval.
        high: upper end.
        start: of the axis; `scale_from` gives one for many rows.
        label: what a screen reader says.
    """
    tenths = [tenth / 10 for tenth in range(round(10 * start), 11)]
    grid = [
        tag("line", x1=_x(t, start), x2=_x(t, start), y1=0, y2=HEIGHT, class_="grid")
        for t in tenths
    ]
    middle = HEIGHT / 2
    ends = {"x1": _x(low, start), "x2": _x(high, start)}
    marks = [
        tag("line", **ends, y1=middle, y2=middle, class_="whisker"),
        tag("circle", cx=_x(value, start), cy=middle, r=3.5, class_="dot"),
    ]
    return svg(WIDTH, HEIGHT, *grid, *marks, label=label, class_="interval")


def _x(value: float, start: float) -> float:
    return MARGIN + (max(value, start) - start) / (1 - start) * (WIDTH - 2 * MARGIN)

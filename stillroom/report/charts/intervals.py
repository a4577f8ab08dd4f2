"""Scores with their intervals on one axis, a row for each model: overlap is seen, not computed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from stillroom.page.charts.svg import svg, tag, text
from stillroom.report.models import ModelRow, Score

__all__ = ["Axis", "axis_of", "draw_axis", "draw_row"]

WIDTH = 260.0
HEIGHT = 34.0
MARGIN = 14.0
STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
MAX_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """A linear axis of fractions from `low` to `high` with a tick at every `step`."""

    low: float
    high: float
    step: float

    def x(self, value: float) -> float:
        """Position in the drawing."""
        share = (value - self.low) / (self.high - self.low)
        return MARGIN + share * (WIDTH - 2 * MARGIN)

    @property
    def ticks(self) -> list[float]:
        """Values at the ticks."""
        steps = round((self.high - self.low) / self.step)
        return [self.low + i * self.step for i in range(steps + 1)]


def axis_of(models: Iterable[ModelRow]) -> Axis:
    """An axis that holds every interval, cut where nothing is, with few round ticks."""
    scores = [score for model in models for score in (model.val, model.test)]
    low, high = min(score.low for score in scores), max(score.high for score in scores)
    for step in STEPS:
        first, last = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        if (last - first) / step <= MAX_TICKS:
            break
    last = min(1.0, max(last, first + step))
    return Axis(max(0.0, min(first, last - step)), last, step)


def draw_axis(axis: Axis) -> Markup:
    """The scale, for the head of the column."""
    digits = 0 if axis.step >= 0.01 else 1
    ticks = [
        text(f"{100 * value:.{digits}f}", axis.x(value), 12, text_anchor="middle", class_="tick")
        for value in axis.ticks
    ]
    return svg(WIDTH, 16, *ticks, label="Scale: top-1 in per cent", class_="interval")


def draw_row(axis: Axis, model: ModelRow) -> Markup:
    """One model: test filled, validation hollow, each with its 95 % interval."""
    grid = [
        tag("line", x1=axis.x(v), x2=axis.x(v), y1=0, y2=HEIGHT, class_="grid") for v in axis.ticks
    ]
    marks = [*_mark(axis, model.val, 10, "val"), *_mark(axis, model.test, 24, "test")]
    label = (
        f"{model.title}: test {model.test.top1:.1%}, 95 % interval {model.test.low:.1%} to "
        f"{model.test.high:.1%}; validation {model.val.top1:.1%}"
    )
    return svg(WIDTH, HEIGHT, *grid, *marks, label=label, class_="interval")


def _mark(axis: Axis, score: Score, y: float, kind: str) -> list[Markup]:
    ends = {"x1": axis.x(score.low), "x2": axis.x(score.high)}
    return [
        tag("line", **ends, y1=y, y2=y, class_=f"whisker {kind}"),
        tag("circle", cx=axis.x(score.top1), cy=y, r=4, class_=f"dot {kind}"),
    ]

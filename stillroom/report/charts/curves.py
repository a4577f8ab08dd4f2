"""Training curves: loss above, top-1 below, one small drawing for each model."""

from __future__ import annotations

import math

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from stillroom.page.charts.drawing import BLUE, RED, SOFT, drawing, inline_svg, plain
from stillroom.report.charts.history import History

__all__ = ["draw_curves"]

NARROW = 10.0  # a logarithmic axis of less than a decade has hardly a tick


def draw_curves(history: History, *, name: str, top1_low: float) -> Markup:
    """Draw one training.

    Args:
        history: of the model.
        name: unique on the page.
        top1_low: lower end of the top-1 axis, the same for all models.
    """
    with drawing(252, 300) as figure:
        loss, top1 = figure.subplots(2, 1, sharex=True)
        _draw_pair(loss, history.train_loss, history.val_loss)
        _draw_pair(top1, history.train_top1, history.val_top1)
        values = [v for v in (*history.train_loss, *history.val_loss) if not math.isnan(v)]
        if values and min(values) * NARROW < max(values) and min(values) > 0:
            loss.set_yscale("log")
            loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            loss.yaxis.set_minor_locator(NullLocator())
        top1.set_ylim(top1_low, 1.015)
        top1.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        top1.yaxis.set_major_locator(MaxNLocator(4))
        top1.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        top1.set_xlim(0.5, max(history.epochs, 2) + 0.5)
        plain(loss, title="loss")
        plain(top1, x="epoch", title="top-1")
        _mark_phases((loss, top1), history)
        loss.legend(loc="upper right", ncols=2, borderaxespad=0.1, handlelength=1.2)
        return inline_svg(figure, name=name, label=f"Training curves: {history.title}")


def _draw_pair(axes: Axes, train: tuple[float, ...], val: tuple[float, ...]) -> None:
    epochs = range(1, len(val) + 1)
    # Shape as well as colour: the two are told apart in grey, too.
    axes.plot(epochs, train, color=RED, linestyle=(0, (4, 2)), label="train")
    axes.plot(epochs, val, color=BLUE, marker="o", markersize=3.2, label="val")


def _mark_phases(panels: tuple[Axes, ...], history: History) -> None:
    """A line where a phase begins, where there are two."""
    if len(history.phases) < 2:
        return
    start = 0
    for phase, epochs in history.phases:
        for axes in panels:
            if start:
                axes.axvline(start + 0.5, color=SOFT, linewidth=1, linestyle=":")
        panels[-1].annotate(
            phase,
            (start + 0.5, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, 4),
            textcoords="offset points",
            color=SOFT,
        )
        start += epochs

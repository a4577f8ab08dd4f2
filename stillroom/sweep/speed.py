"""Whether measured latencies can be trusted, and how an axis of costs is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

__all__ = ["busy_notice", "cost_axis"]

STEADY = 1.5  # upper over lower quartile, above which something else was running


def busy_notice(
    latencies: Iterable[Mapping[str, float]], again: str = "repeat it with another --name"
) -> list[str]:
    """A sentence where the machine was busy while it measured; else none.

    Args:
        latencies: with q1_ms and q3_ms.
        again: how to measure once more.
    """
    shaky = max((entry["q3_ms"] / entry["q1_ms"] for entry in latencies), default=1.0)
    if shaky <= STEADY:
        return []
    return [
        f"The latencies are not to be trusted: the upper quartile is up to {shaky:.1f} times the "
        f"lower, so the machine did other work meanwhile. Go by the multiply-adds, or {again} on "
        "an idle machine."
    ]


def cost_axis(axes: Axes, values: Sequence[float]) -> None:
    """The horizontal axis of costs; logarithmic where they are far apart."""
    if max(values) > 4 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

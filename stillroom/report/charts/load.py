"""Latency under load: percentiles on an axis of nines, and every request over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from numpy.typing import NDArray

from stillroom.page.charts.drawing import (
    AMBER,
    BLUE,
    GREEN,
    INK,
    RED,
    SOFT,
    drawing,
    inline_svg,
    plain,
)
from stillroom.report.charts.samples import Samples

__all__ = ["MAX_POINTS", "draw_over_time", "draw_percentiles", "latency_limits"]

MAX_POINTS = 2500
MAX_STEPS = 400
MIN_MS = 1e-3  # a log axis has no zero

Floats = NDArray[np.float64]


def latency_limits(loads: list[Samples], slo: dict[str, Any] | None) -> tuple[float, float]:
    """Ends of a logarithmic latency axis that fits several loads and the objective."""
    values = [load.intended_ms for load in loads] + [load.service_ms for load in loads]
    if slo is not None:
        values.append(np.array([slo["target_ms"]]))
    every = np.concatenate(values)
    every = every[np.isfinite(every)].clip(MIN_MS)
    if not len(every):
        return 1.0, 100.0
    return float(every.min() / 1.3), float(every.max() * 1.3)


def draw_percentiles(
    samples: Samples,
    slo: dict[str, Any] | None,
    limits: tuple[float, float],
    *,
    name: str,
    planned: bool,
) -> Markup:
    """Latency by percentile, the tail as wide as the body.

    Args:
        samples: of one load.
        slo: objective to draw; None for none.
        limits: ends of the latency axis.
        name: unique on the page.
        planned: whether requests had a planned time: intended latency then differs from service.
    """
    with drawing(400, 290) as figure:
        axes = figure.subplots()
        if len(samples) and planned:
            axes.plot(*_quantiles(samples.intended_ms), color=BLUE, label="intended")
            axes.plot(
                *_quantiles(samples.service_ms), color=RED, linestyle=(0, (4, 2)), label="service"
            )
        elif len(samples):
            axes.plot(*_quantiles(samples.service_ms), color=BLUE, label="service")
        _draw_objective(axes, slo)
        if slo is not None:
            nines = 1 / (1 - slo["percentile"] / 100)
            axes.plot([nines], [slo["target_ms"]], marker="D", markersize=6, color=INK)
        _style_nines(axes, len(samples))
        _style_latency(axes, limits)
        plain(axes, x="percentile of the requests", title="latency, ms")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left")
        return inline_svg(figure, name=name, label="Latency by percentile")


def draw_over_time(
    samples: Samples, slo: dict[str, Any] | None, limits: tuple[float, float], *, name: str
) -> Markup:
    """Every request at its planned time; those not answered right stand out."""
    with drawing(400, 290) as figure:
        axes = figure.subplots()
        right = _thinned(samples.intended_ms, np.flatnonzero(samples.right))
        wrong = np.flatnonzero(~samples.right)[:MAX_POINTS]
        y = samples.intended_ms.clip(MIN_MS)
        axes.add_patch(_dots(samples.planned_s[right], y[right], GREEN, 2.6, 0.55))
        if len(wrong):
            axes.add_patch(_dots(samples.planned_s[wrong], y[wrong], RED, 4.5, 1.0))
        _draw_objective(axes, slo)
        axes.set_xlim(0, max(1.0, float(samples.planned_s.max(initial=0.0)) * 1.01))
        _style_latency(axes, limits)
        plain(axes, x="seconds since the start", title="latency of each request, ms")
        return inline_svg(figure, name=name, label="Latency over time")


def _dots(x: Floats, y: Floats, color: str, size: float, alpha: float) -> PathPatch:
    """Points as one path of strokes without length: a tenth of the bytes of a scatter plot."""
    vertices = np.repeat(np.column_stack([x, y]), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(x)).astype(Path.code_type)
    path = Path(vertices, codes)
    path.should_simplify = False  # it would drop strokes without length, which are all of them
    return PathPatch(
        path, fill=False, edgecolor=color, linewidth=size, alpha=alpha, capstyle="round"
    )


def _thinned(latency_ms: Floats, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most MAX_POINTS of `index`: the slowest hundredth all, of the others every so many-th."""
    if len(index) <= MAX_POINTS:
        return index
    slowest = index[np.argsort(-latency_ms[index], kind="stable")[: MAX_POINTS // 5]]
    stride = -(-len(index) // (MAX_POINTS - len(slowest)))
    return np.union1d(slowest, index[::stride])


def _quantiles(latency_ms: Floats) -> tuple[Floats, Floats]:
    """Nines, 1 / (1 - share), and the sorted latencies, at no more points than can be seen."""
    ordered = np.sort(latency_ms).clip(MIN_MS)
    n = len(ordered)
    nines = n / np.arange(n, 0, -1)
    seen = np.unique(np.searchsorted(nines, np.geomspace(1, n, MAX_STEPS)).clip(0, n - 1))
    return nines[seen], ordered[seen]


def _draw_objective(axes: Axes, slo: dict[str, Any] | None) -> None:
    if slo is None:
        return
    axes.axhline(slo["target_ms"], color=AMBER, linewidth=1.6)
    axes.annotate(
        f"objective p{slo['percentile']:g} ≤ {slo['target_ms']:g} ms",
        (1.0, slo["target_ms"]),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        color=SOFT,
        fontsize=9.5,
    )


def _style_nines(axes: Axes, n: int) -> None:
    ticks = [1, 2, 10, 100, 1000, 10_000, 100_000]
    ticks = ticks[: 2 + max(1, len(str(max(n, 2))) - 1)]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: "0" if x == 1 else f"{100 * (1 - 1 / x):.6g}")
    )
    axes.set_xlim(1, max(n, 2))


def _style_latency(axes: Axes, limits: tuple[float, float]) -> None:
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    steps = [m * 10.0**e for e in range(-3, 7) for m in (1, 2, 5)]
    axes.yaxis.set_major_locator(FixedLocator([s for s in steps if limits[0] <= s <= limits[1]]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())

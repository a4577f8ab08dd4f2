"""The page of a comparison of backbones."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from stillroom.page.charts.drawing import BLUE, INK, SOFT, drawing, inline_svg, plain
from stillroom.page.format import duration, interval, millions, ms, percent
from stillroom.sweep.backbones.facts import Backbone, Backbones
from stillroom.sweep.page import Tile, render, top1_cell, whisker_start
from stillroom.sweep.search.charts import percent_axis
from stillroom.sweep.speed import cost_axis
from stillroom.sweep.subject import StudyData

__all__ = ["draw_accuracy", "render_backbones"]


def render_backbones(result: Backbones, subject: StudyData, name: str) -> str:
    """The page's text."""
    ranked = sorted(result.entries, key=lambda e: (-e.outcome.top1, e.outcome.loss))
    start = whisker_start([entry.outcome.top1_low for entry in ranked])
    rows = [
        (
            entry,
            top1_cell(entry.outcome.top1, entry.outcome.top1_low, entry.outcome.top1_high, start),
        )
        for entry in ranked
    ]
    return render(
        "sweep_backbones.html.j2",
        subject,
        title=name,
        kind="backbones",
        sentences=result.sentences(),
        tiles=_tiles(result),
        result=result,
        rows=rows,
        start=start,
        by_latency=draw_accuracy(
            ranked, [e.latency["median_ms"] for e in ranked], "latency of one image, ms", "latency"
        ),
        by_flops=draw_accuracy(
            ranked, [e.outcome.flops / 1e6 for e in ranked], "million multiply-adds", "flops"
        ),
    )


def draw_accuracy(ranked: Sequence[Backbone], costs: Sequence[float], x: str, name: str) -> Markup:
    """Val top-1 with its interval over what an image costs; numbers as in the table.

    Args:
        ranked: the best first.
        costs: of each.
        x: what they are, with their unit.
        name: unique on the page.
    """
    with drawing(420, 290) as figure:
        axes = figure.subplots()
        for rank, (entry, cost) in enumerate(zip(ranked, costs, strict=True), 1):
            outcome = entry.outcome
            colour = BLUE if rank == 1 else SOFT
            axes.vlines(cost, outcome.top1_low, outcome.top1_high, color=colour, linewidth=1.5)
            axes.plot(cost, outcome.top1, marker="o", markersize=6, color=colour)
            axes.annotate(
                str(rank),
                (cost, outcome.top1),
                xytext=(6, -12),
                textcoords="offset points",
                color=INK,
            )
        cost_axis(axes, costs)
        axes.margins(x=0.12)
        percent_axis(axes)
        plain(axes, x=x, title="val top-1")
        return inline_svg(figure, name=name, label=f"Val top-1 over {x}")


def _tiles(result: Backbones) -> list[Tile]:
    best, fast = result.best, result.fastest_equal
    outcome = best.outcome
    spread = f"{interval(outcome.top1_low, outcome.top1_high)}, n = {outcome.n}"
    spent_s = sum(entry.outcome.wall_s for entry in result.entries)
    macs = f"{millions(outcome.flops)} multiply-adds"
    return [
        ("best val top-1", percent(outcome.top1), spread),
        ("its latency", ms(best.latency["median_ms"]), "ONNX Runtime, 1 CPU thread"),
        ("its parameters", millions(outcome.parameters), macs),
        ("fastest not worse", ms(fast.latency["median_ms"]), fast.arch),
        ("all trainings", duration(spent_s), result.budget),
    ]

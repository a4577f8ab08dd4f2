"""The page of a resolution sweep."""

from __future__ import annotations

from stillroom.page.format import interval, millions, ms, number, percent
from stillroom.sweep.page import Tile, render, top1_cell, whisker_start
from stillroom.sweep.resolution.charts import draw_by_latency, draw_by_size
from stillroom.sweep.resolution.facts import Resolution
from stillroom.sweep.subject import StudyData

__all__ = ["render_resolution"]


def render_resolution(resolution: Resolution, subject: StudyData, name: str) -> str:
    """The page's text."""
    start = whisker_start([entry.figures["top1_low"] for entry in resolution.entries])
    return render(
        "sweep_resolution.html.j2",
        subject,
        title=name,
        kind="resolution",
        sentences=resolution.sentences(),
        tiles=_tiles(resolution),
        resolution=resolution,
        arch=subject.recipe.teacher.arch,
        start=start,
        rows=[
            (
                entry,
                top1_cell(
                    entry.figures["top1"],
                    entry.figures["top1_low"],
                    entry.figures["top1_high"],
                    start,
                ),
            )
            for entry in resolution.entries
        ],
        by_size=draw_by_size(resolution.entries),
        by_latency=draw_by_latency(resolution.entries),
    )


def _tiles(resolution: Resolution) -> list[Tile]:
    best = resolution.best
    figures, latency = best.figures, best.latency
    sizes = f"{best.place.train_size_px} → {best.place.test_size_px} px"
    quartiles = f"quartiles {latency['q1_ms']:.2f} to {latency['q3_ms']:.2f}, 1 CPU thread"
    spread = interval(figures["top1_low"], figures["top1_high"])
    return [
        ("best: train → test", sizes, f"ratio {number(best.place.ratio, 2)}"),
        ("its val top-1", percent(figures["top1"]), f"{spread}, n = {figures['n']}"),
        ("its latency", ms(latency["median_ms"]), quartiles),
        ("its multiply-adds", millions(latency["flops"]), "of one image"),
    ]

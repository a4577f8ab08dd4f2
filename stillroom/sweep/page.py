"""The frame of every sweep's page: what was found first, then how, then what it was judged on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stillroom.page.charts.whiskers import draw_whisker, scale_from
from stillroom.page.environment import page_environment
from stillroom.page.format import percent
from stillroom.sweep.subject import StudyData

__all__ = ["Tile", "render", "top1_cell", "whisker_start"]

Tile = tuple[str, str, str]  # label, figure, small print


def render(
    template: str,
    subject: StudyData,
    *,
    title: str,
    kind: str,
    sentences: Sequence[str],
    tiles: Sequence[Tile],
    **values: Any,
) -> str:
    """The page's text.

    Args:
        template: of the sweep's kind.
        subject: what was judged on what.
        title: of the sweep; stands behind the name of the run.
        kind: of the sweep, for the line above it.
        sentences: the verdict; the first is the headline.
        tiles: the figures that a reader remembers.
        values: what else the template wants.
    """
    val = subject.dataset.of_split("val")
    return (
        page_environment()
        .get_template(template)
        .render(
            title=f"{subject.run.path.resolve().name}: {title}",
            kind=kind,
            sentences=sentences,
            tiles=tiles,
            subject=subject,
            val_photos=len(val),
            train_photos=len(subject.dataset.photos) - len(val),
            **values,
        )
    )


def whisker_start(lows: Sequence[float]) -> float:
    """Where the axis of a column of whiskers begins."""
    return scale_from(lows)


def top1_cell(top1: float, low: float, high: float, start: float) -> Any:
    """A whisker for the column that begins at `start`."""
    label = f"{percent(top1)}, {percent(low)} to {percent(high)}"
    return draw_whisker(top1, low, high, start=start, label=label)

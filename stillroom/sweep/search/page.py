"""The page of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stillroom.page.format import DASH, duration, interval, percent
from stillroom.sweep.page import Tile, render, top1_cell, whisker_start
from stillroom.sweep.search.charts import draw_history, draw_importances, draw_slice
from stillroom.sweep.search.facts import SearchResult, TrialRow
from stillroom.sweep.search.space import Space
from stillroom.sweep.subject import StudyData

__all__ = ["render_search"]

MAX_ROWS = 40
MAX_SLICES = 8


def render_search(
    result: SearchResult, sentences: Sequence[str], subject: StudyData, space: Space, name: str
) -> str:
    """The page's text."""
    ranked = sorted(result.rows, key=_rank)
    done = [row.outcome for row in ranked if row.outcome is not None]
    start = whisker_start([outcome.top1_low for outcome in done])
    enough = len(done) > 1
    return render(
        "sweep_search.html.j2",
        subject,
        title=name,
        kind="search",
        sentences=sentences,
        tiles=_tiles(result),
        rows=[(row, _whisker(row, start)) for row in ranked[:MAX_ROWS]],
        hidden=max(0, len(ranked) - MAX_ROWS),
        best=result.best.number if result.best else None,
        start=start,
        dimensions=space.dimensions,
        history=draw_history(result.rows) if enough else "",
        importances=draw_importances(result.importances) if result.importances else "",
        slices=[
            draw_slice(result.rows, key, dimension, number)
            for number, (key, dimension) in enumerate(space.dimensions.items())
        ][: MAX_SLICES if enough else 0],
        short=_short,
    )


def _tiles(result: SearchResult) -> list[Tile]:
    best, own = result.best, next((row for row in result.rows if row.own), None)
    pruned, failed = result.count("pruned"), result.count("failed")
    spent_s = sum(row.outcome.wall_s for row in result.rows if row.outcome)
    return [
        ("best val top-1", *_figure(best)),
        ("the recipe's own", *_figure(own)),
        ("trials", str(len(result.rows)), f"{pruned} pruned, {failed} failed"),
        ("complete trials took", duration(spent_s), "of training"),
    ]


def _figure(row: TrialRow | None) -> tuple[str, str]:
    if row is None or row.outcome is None:
        return DASH, "not among the complete trials"
    outcome = row.outcome
    return percent(
        outcome.top1
    ), f"{interval(outcome.top1_low, outcome.top1_high)}, n = {outcome.n}"


def _rank(row: TrialRow) -> tuple[int, float, float, int]:
    """Complete trials first, the best of them at the top; then by what they had reached."""
    if row.outcome is not None:
        return (0, -row.outcome.top1, row.outcome.loss, row.number)
    return (1, -(row.last_top1 or 0.0), 0.0, row.number)


def _whisker(row: TrialRow, start: float) -> Any:
    if row.outcome is None:
        return ""
    outcome = row.outcome
    return top1_cell(outcome.top1, outcome.top1_low, outcome.top1_high, start)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""`stillroom compress --search`: what the command prints of a search for a student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stillroom.command_text import command_text
from stillroom.commands.studies.sweep import show_verdict
from stillroom.commands.tables import students_table
from stillroom.console import show
from stillroom.sweep.students.pareto import Bounds
from stillroom.sweep.students.run import StudentsRequest, choose_student, refuse_without_pick

__all__ = ["search_student"]


def search_student(
    run: Path,
    overrides: Sequence[str],
    students: str,
    test_sizes: str,
    precisions: str,
    max_latency_ms: float | None,
    min_top1: float | None,
) -> None:
    """Search, print the table and the verdict, and how to build the pick.

    Raises:
        GateError: nothing holds the bounds; the page and the figures were written.
        StillroomError: of the search.
    """
    bounds = Bounds(max_latency_ms, min_top1)
    request = StudentsRequest(run, tuple(overrides), students, test_sizes, bounds, precisions)
    found = choose_student(request)
    picked = found.picked.cell.name if found.picked else ""
    students_table([entry.row() for entry in found.entries], picked)
    show_verdict(run / "sweep" / "students" / "index.html")
    refuse_without_pick(found)
    if overrides := found.recipe_overrides():
        show("build the pick:")
        show(f"  {command_text('compress', run, *overrides)}")
        if found.picked is not None and found.picked.cell.precision != "fp32":
            precision = found.picked.cell.precision
            show(f"  {command_text('export', run, '--precision', precision)}")

"""`stillroom run`: every stage of a run."""

from __future__ import annotations

from stillroom.commands.arguments import (
    FromOption,
    Overrides,
    Photos,
    RecipeOption,
    RunOption,
    UntilOption,
)
from stillroom.commands.building import build_and_show

__all__ = ["run"]


def run(
    photos: Photos,
    overrides: Overrides = None,
    run: RunOption = None,
    recipe: RecipeOption = None,
    until: UntilOption = "report",
    rebuild_from: FromOption = None,
) -> None:
    """From images to a load-tested service; resumes where it was.

    Audit, teacher, student, FixRes, baseline, export with parity gate, HTTP parity, load, report.

    Example: stillroom run photos/ --recipe flowers-cpu teacher.epochs=8
    """
    build_and_show(photos, run, recipe, overrides, until, rebuild_from)

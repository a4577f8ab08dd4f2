"""What the commands that build stages share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillroom.run.folder import RunFolder

__all__ = ["build_and_show", "build_stages"]


def build_and_show(
    photos: str | None,
    run: Path | None,
    recipe: str | None,
    overrides: list[str] | None,
    until: str,
    rebuild_from: str | None,
) -> Path:
    """As `build_stages`, then the table of what the run reached; returns the run's folder."""
    from stillroom.commands.tables import summary_table

    folder = build_stages(photos, run, recipe, overrides, until, rebuild_from)
    summary_table(folder)
    return folder.path


def build_stages(
    photos: str | None,
    run: Path | None,
    recipe: str | None,
    overrides: list[str] | None,
    until: str,
    rebuild_from: str | None,
    later: tuple[str, ...] = (),
) -> RunFolder:
    """Build the stages of a run that a command asks for and are not done.

    Args:
        photos: a folder, a list file or shards; None takes the run's own.
        run: the run folder; None is runs/<name of the images>.
        recipe: a file or a shipped name.
        overrides: key=value each.
        until: last stage.
        rebuild_from: stage to build again even if it is done; None for none.
        later: stages that the caller builds next.
    """
    from stillroom.run.execution import Request, run_stages
    from stillroom.run.pipeline import PIPELINE
    from train.data.source import name_of, origin_of

    origin = None if photos is None else origin_of(photos)
    if run is None:
        run = Path("runs") / (name_of(origin) if origin else "run")
    told = tuple(overrides or ())
    request = Request(run, origin, recipe, told, until, rebuild_from, later=later)
    return run_stages(PIPELINE, request)

"""`stillroom status`: which stages of a run are done."""

from __future__ import annotations

from stillroom.commands.arguments import Run

__all__ = ["status"]


def status(run: Run) -> None:
    """Which stages of a run are done, stale (and why), half done, running or not built.

    Example: stillroom status runs/mine
    """
    from stillroom.commands.tables import status_table

    status_table(run)

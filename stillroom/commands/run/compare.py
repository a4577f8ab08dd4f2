"""`stillroom compare`: two runs, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.commands.arguments import Run

__all__ = ["compare"]


def compare(
    first: Run, second: Annotated[Path, typer.Argument(help="The other run folder.")]
) -> None:
    """Compare two runs image by image, with paired statistics.

    Example: stillroom compare runs/mine runs/more-epochs
    """
    from stillroom.commands.run.compare_runs import compare_runs

    compare_runs(first, second)

"""`stillroom report`: whatever the report needs, then the report."""

from __future__ import annotations

from stillroom.commands.arguments import Overrides, Run
from stillroom.commands.building import build_and_show

__all__ = ["report"]


def report(run: Run, overrides: Overrides = None) -> None:
    """Build whatever the report needs, then the report.

    Example: stillroom report runs/mine
    """
    build_and_show(None, run, None, overrides, "report", None)

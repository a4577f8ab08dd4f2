"""`stillroom export RUN`: the fp32 artifact, and those of reduced precision that are asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from export.options import REDUCED
from serve.contract.errors import UsageError
from stillroom.command_text import command_text
from stillroom.run.folder import RunFolder
from train.engine.progress import say

__all__ = ["NOT_WORTH_IT", "export_run"]

NOT_WORTH_IT = 4  # exit code: it works, and is not faster here


def export_run(run: Path, overrides: Sequence[str], precisions: Sequence[str]) -> int:
    """Build the artifacts of a run.

    Args:
        run: the run folder.
        overrides: key=value of the recipe.
        precisions: further ones, of `export.options.REDUCED`, also with commas between them; fp32
            is always built.

    Returns:
        Exit code: 0, or NOT_WORTH_IT where one of them is not faster than fp32 on this machine.

    Raises:
        UsageError: an unknown precision.
        GateError: a file does not answer as the checkpoint does; it was not published.
    """
    from stillroom.commands.tables import summary_table
    from stillroom.run.execution import Request, run_stages
    from stillroom.run.pipeline import PIPELINE

    precisions = [name.strip() for given in precisions for name in given.split(",")]
    for name in precisions:
        if name not in (*REDUCED, "fp32"):
            raise UsageError(
                f"--precision {name}: expected {', '.join(REDUCED)}; fp32 is always built."
            )
    folder = RunFolder(run)
    asked = tuple(name for name in REDUCED if name in precisions)
    for stage in ("export", *asked):
        request = Request(run, None, None, tuple(overrides), stage, later=asked)
        folder = run_stages(PIPELINE, request)
    summary_table(folder)
    slow = [name for name in precisions if _benefit(folder, name) not in ("", "worth it")]
    for name in slow:
        say(f"{name} works and is not faster than fp32 here: serve fp32 on this machine.")
    if any(name in REDUCED for name in precisions) and folder.manifest("report"):
        say(f"{command_text('report', run)} shows it")
    return NOT_WORTH_IT if slow else 0


def _benefit(run: RunFolder, precision: str) -> str:
    """What was timed when the file was made; empty where nothing was."""
    path = run.stage(f"artifact-{precision}") / "benefit.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_bytes())["benefit"]
    return str(found["verdict"]) if found else ""

"""`stillroom train --profile`: what does this training wait for?"""

from __future__ import annotations

import os

from rich.console import Console

from stillroom.commands.data.audited import open_audited
from stillroom.run.execution import Request
from train.extras.profiler import profile_training

__all__ = ["profile_run"]

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it reports a GPU that is not there as an error

TRACE = "profile/trace.json"


def profile_run(request: Request) -> None:
    """Measure and trace some steps of the teacher's training, and print the verdict.

    The trace is written to profile/trace.json in the run folder; nothing is trained into the run.

    Args:
        request: with images; `until` and `rebuild_from` do not matter.

    Raises:
        StillroomError: images, recipe or weights cannot be used.
    """
    recipe, dataset = open_audited(request)
    found = profile_training(dataset, recipe.teacher, seed=recipe.seed, trace=request.run / TRACE)
    console = Console(highlight=False, soft_wrap=True)
    for line in found.lines():
        console.print(line, markup=False)
    console.print(f"{found.trace} (open it in ui.perfetto.dev)", markup=False)

"""`stillroom train --sanity`: can this training work at all?"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve.contract.errors import GateError
from stillroom.commands.data.audited import open_audited
from stillroom.run.execution import Request
from train.engine.progress import track
from train.extras.sanity.case import sanity_case_of
from train.extras.sanity.checks import CHECKS, Check, check

__all__ = ["check_training", "print_checks"]


def check_training(request: Request) -> None:
    """Check the teacher's training that a request asks for, and print one line a check.

    A run that has an audit of these images is only read; else the audit is built first.

    Args:
        request: with images; `until` and `rebuild_from` do not matter.

    Raises:
        GateError: a check found something wrong.
        StillroomError: images, recipe or weights cannot be used.
    """
    recipe, dataset = open_audited(request)
    subject = sanity_case_of(dataset, recipe.teacher, recipe.seed)
    names = track(CHECKS, "sanity", len(CHECKS), "checks")
    print_checks([check(name, subject) for name in names])


def print_checks(checks: list[Check]) -> None:
    """A line for each check.

    Raises:
        GateError: not all are ok.
    """
    table = Table(box=None, pad_edge=False, show_header=False)
    for one in checks:
        verdict = Text("ok", "green") if one.ok else Text("wrong", "bold red")
        table.add_row(verdict, Text(one.name, "bold"), Text(one.words))
    Console(highlight=False).print(table)
    if wrong := [one.name for one in checks if not one.ok]:
        raise GateError(
            f"{len(wrong)} of {len(checks)} sanity checks failed: {', '.join(wrong)}.",
            "Mend these before you train.",
        )

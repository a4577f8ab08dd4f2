"""`stillroom train --choices`: which precision, and is torch.compile worth it, on this machine?"""

from __future__ import annotations

import statistics

from rich.console import Console
from rich.table import Table

from stillroom.commands.data.audited import open_audited
from stillroom.run.execution import Request
from train.extras.step_choices import Choice, advice, measure_choices

__all__ = ["measure_run"]


def measure_run(request: Request) -> None:
    """Time the steps of the teacher's training in each way they may be computed; nothing is kept.

    Args:
        request: with images; `until` and `rebuild_from` do not matter.

    Raises:
        StillroomError: images, recipe or weights cannot be used.
    """
    recipe, dataset = open_audited(request)
    choices = measure_choices(dataset, recipe.teacher, seed=recipe.seed)
    table = Table(box=None, pad_edge=False)
    for column in ("", "images/s", "lowest to highest", "first steps", "loss after them"):
        table.add_column(column, justify="left" if not column else "right")
    for number, choice in enumerate(choices):
        table.add_row(*_cells(choice, is_now=number == 0))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(advice(choices), markup=False)


def _cells(choice: Choice, *, is_now: bool) -> tuple[str, ...]:
    words: list[str] = [choice.precision]
    words += ["compiled"] if choice.compile else []
    words += ["deterministic"] if choice.deterministic else []
    name = ", ".join(words) + (" (the recipe's)" if is_now else "")
    if choice.problem:
        return name, "-", choice.problem, "", ""
    low, high = min(choice.rates), max(choice.rates)
    spread = f"{low:.0f} to {high:.0f}"
    middle = f"{statistics.median(choice.rates):.0f}"
    return name, middle, spread, f"{choice.start_s:.1f} s", f"{choice.loss:.3f}"

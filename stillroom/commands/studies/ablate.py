"""`stillroom ablate`: what distillation and FixRes each bring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.command_text import command_text
from stillroom.console import show

__all__ = ["ablate"]


def ablate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value of the recipe.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings of each student [the recipe's: 3].")
    ] = None,
) -> None:
    """What distillation and FixRes each bring: the student with neither, either and both.

    Equal budgets, judged once on the test images; stopped, the same command goes on. The
    report shows the table from its next build on. Overrides hold for the ablation alone: they are
    kept in its folder, and the run's recipe stays as it is.

    Example: stillroom ablate runs/mine --seeds 3
    """
    from stillroom.ablation.stage import TABLE
    from stillroom.run.execution import Request, run_stages
    from stillroom.run.pipeline import PIPELINE

    told = [*(overrides or ()), *([f"ablation.seeds={seeds}"] if seeds else [])]
    folder = run_stages(PIPELINE, Request(run, None, None, tuple(told), "ablation", apart=True))
    table = folder.stage("ablation") / TABLE
    show(f"{table.read_text(encoding='utf-8')}\n{table}")
    if folder.manifest("artifact"):
        show(f"{command_text('report', run)} shows it")

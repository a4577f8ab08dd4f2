"""`stillroom evaluate`: where a model errs, for people."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from serve.contract.errors import UsageError
from stillroom.console import show

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)

SPLITS = ("test", "val")


def evaluate(
    target: Annotated[Path, typer.Argument(help="Run folder, or a predictions.csv.")],
    stage: Annotated[
        str | None, typer.Option(help="teacher, student, fixres or baseline [the exported one].")
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="The dataset [the run's].")] = None,
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    per_class: Annotated[
        int, typer.Option(min=0, help="Images of each predicted class to copy.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder [RUN/evaluation/<stage>].")] = None,
) -> None:
    """Where a model errs: a page with confusions, galleries, heat maps and suspected labels.

    Example: stillroom evaluate runs/mine --stage teacher --per-class 20
    """
    from stillroom.evaluation.source import open_source

    if split not in SPLITS:
        raise UsageError(f"No split {split!r} is evaluated.", f"Splits: {', '.join(SPLITS)}.")
    source = open_source(target, stage, photos)  # refuses before what draws is loaded
    from stillroom.evaluation.advice import advise, headline
    from stillroom.evaluation.write import write_evaluation

    if note := source.note():
        logger.warning(note)
    folder = out or source.out
    findings, exported = write_evaluation(source, folder, split=split, per_class=per_class)
    lines = [f"{source.title}: {headline(findings)}", *(f"  {one}" for one in advise(findings))]
    if exported is not None:
        missing = f", {exported.missing} gone or changed" if exported.missing else ""
        lines.append(f"{exported.copied} images copied{missing}: {folder / 'by_prediction'}")
    show("\n".join([*lines, f"{folder / 'index.html'}"]))

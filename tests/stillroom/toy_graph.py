"""A pipeline of two stages that write one file each, for whole calls of `run_stages`."""

from __future__ import annotations

from pathlib import Path

from serve.contract.errors import CheckpointError
from stillroom.run.execution import Request, run_stages
from stillroom.run.folder import RunFolder
from stillroom.run.stage_graph import Built, Context, Graph, Stage


def _build_first(context: Context) -> Built:
    (context.out / "file.txt").write_text(f"epochs {context.recipe.teacher.epochs}")
    return Built()


def _build_second(context: Context) -> Built:
    if context.recipe.student.arch == "bad":
        raise CheckpointError("No model 'bad'.")
    (context.out / "file.txt").write_text(context.recipe.student.arch)
    return Built()


TOY = Graph(
    (
        Stage("first", "a", (), lambda r: {"epochs": r.teacher.epochs}, _build_first),
        Stage("second", "b", ("first",), lambda r: {"arch": r.student.arch}, _build_second),
        Stage("third", "c", ("second",), lambda r: {}, _build_first),
    ),
    {},
)


def run_toy(run: Path, photos: Path, *overrides: str, recipe: str | None = None) -> RunFolder:
    """`stillroom run` of the toy pipeline."""
    return run_stages(TOY, Request(run, photos, recipe, overrides, until="third"))

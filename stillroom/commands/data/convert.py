"""`stillroom convert`: images of formats that are not read get a copy that is."""

from __future__ import annotations

from pathlib import Path

import typer

from serve.contract.errors import UsageError
from train.data.convert import convert_folder

__all__ = ["convert_images"]

SHOWN = 20  # problems that are printed


def convert_images(folder: Path) -> None:
    """Convert what `stillroom audit` says is of a format that is not read, and print what was done.

    Raises:
        UsageError: no such folder, or images that could not be converted; the others are.
    """
    if not folder.is_dir():
        raise UsageError(f"No such folder: {folder}.", "Name the folder of images.")
    done = convert_folder(folder)
    problems = [one for one in done if one.problem]
    count = len(done) - len(problems)
    typer.echo(f"{count} converted to PNG, beside their originals.")
    for one in problems[:SHOWN]:
        typer.echo(f"  {one.path}: {one.problem}.")
    if problems:
        raise UsageError(
            f"{len(problems)} of {len(done)} images were not converted, first {problems[0].path}.",
            "Save them as JPEG or PNG by another program, or remove them.",
        )

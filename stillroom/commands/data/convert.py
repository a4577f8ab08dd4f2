"""`stillroom convert`: images of formats that are not read get a copy that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve.contract.errors import UsageError
from stillroom.console import show

__all__ = ["convert", "convert_images"]

SHOWN = 20  # problems that are printed


def convert(
    photos: Annotated[Path, typer.Argument(help="Folder of images, searched in depth.")],
) -> None:
    """Write PNG copies of BMP, TIFF and other images that are not read, beside their originals.

    Example: stillroom convert photos/
    """
    convert_images(photos)


def convert_images(folder: Path) -> None:
    """Convert what `stillroom audit` says is of a format that is not read, and print what was done.

    Raises:
        UsageError: no such folder, or images that could not be converted; the others are.
    """
    if not folder.is_dir():
        raise UsageError(f"No such folder: {folder}.", "Name the folder of images.")
    from train.data.convert import convert_folder

    done = convert_folder(folder)
    problems = [one for one in done if one.problem]
    count = len(done) - len(problems)
    show(f"{count} converted to PNG, beside their originals.")
    for one in problems[:SHOWN]:
        show(f"  {one.path}: {one.problem}.")
    if problems:
        raise UsageError(
            f"{len(problems)} of {len(done)} images were not converted, first {problems[0].path}.",
            "Save them as JPEG or PNG by another program, or remove them.",
        )

"""`stillroom parity`: the gate by itself, of an artifact here or of two ONNX files."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated

import typer

from stillroom.commands.artifact.model_options import (
    Crop,
    Filter,
    Labels,
    Mean,
    Size,
    Std,
    Strict,
    choice_of,
)
from stillroom.commands.stale import say_if_stale

__all__ = ["parity"]

TWO_FILES = "stillroom.parity.two_files"  # optional


def parity(  # noqa: PLR0913  # as export
    target: Annotated[Path | None, typer.Argument(help="Run folder or artifact folder.")] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of images; labels are not needed.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="In the place of an artifact: the ONNX file that is right.")
    ] = None,
    candidate: Annotated[Path | None, typer.Option(help="The ONNX file that is judged.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the candidate: fp32, fp16 or int8 [fp32].")
    ] = None,
    labels: Labels = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    crop_pct: Crop = None,
    interpolation: Filter = None,
    out: Annotated[Path | None, typer.Option(help="Gets parity.json and flips.csv.")] = None,
    strict: Strict = False,
) -> None:
    """Compare predictions on this machine with an artifact's stored ones; or two ONNX classifiers.

    Too few images to say is a warning, with --strict a failure. Of two files, what neither says
    (mean and std of a float input, size, crop) is asked for.

    Example: stillroom parity runs/mine --photos photos/

    Example: stillroom parity --reference a.onnx --candidate b.onnx --photos photos/ --crop-pct 1
    """
    from stillroom.commands.artifact.import_options import refuse_mixed_parity

    of_files = {
        "--precision": precision,
        "--labels": labels,
        "--mean": mean,
        "--std": std,
        "--size": size,
        "--crop-pct": crop_pct,
        "--interpolation": interpolation,
    }
    refuse_mixed_parity(target, reference, candidate, photos, of_files)
    if target is not None:
        from stillroom.parity.local_parity import check_local_parity

        say_if_stale(target)
        check_local_parity(target, photos, out=out, strict=strict)
    elif reference is not None and candidate is not None and photos is not None:
        choice = choice_of(size, crop_pct, interpolation, mean, std)
        request = resolve_name(f"{TWO_FILES}:FilesRequest")(
            reference, candidate, photos, precision or "fp32", choice, labels, out, strict
        )
        resolve_name(f"{TWO_FILES}:compare_files")(request)

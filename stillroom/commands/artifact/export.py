"""`stillroom export`: a run or a checkpoint becomes an artifact, behind the parity gate."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated

import typer

from serve.contract.errors import UsageError
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

__all__ = ["export"]

# Optional: imported when an option asks for it.
ENGINES = "stillroom.commands.artifact.tensorrt:build_engines"
MOBILE = "stillroom.commands.artifact.mobile:write_mobile"
IMPORT = "stillroom.commands.artifact.import_checkpoint"


def export(  # noqa: PLR0913  # typer reads options from parameters
    run: Annotated[Path | None, typer.Argument(help="Run folder.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value of the recipe.")] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="Of a run: fp16, int8 (for CPUs) or int8-tensorrt; may be repeated."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="In the place of a run: a timm checkpoint, .safetensors, .pth or .pt."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="timm name of the checkpoint's model.")] = None,
    weights_key: Annotated[
        str | None, typer.Option(help="Which weights of the checkpoint, such as state_dict_ema.")
    ] = None,
    labels: Labels = None,
    photos: Annotated[
        Path | None, typer.Option(help="Images such as it was trained for; no labels needed.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Artifact folder [artifacts/<model>].")] = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    crop_pct: Crop = None,
    interpolation: Filter = None,
    strict: Strict = False,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Then build TensorRT engines, and check them.")
    ] = False,
    gpus: Annotated[
        list[str] | None,
        typer.Option("--gpu", help="Engines for another GPU, such as sm86; may be repeated."),
    ] = None,
    mobile: Annotated[
        bool, typer.Option("--mobile", help="Then write ONNX Runtime's format for devices.")
    ] = False,
) -> None:
    """Export to ONNX behind the parity gate: a run, or a timm checkpoint trained elsewhere.

    The artifact appears only if its predictions are those of the checkpoint. A file of reduced
    precision gets an artifact of its own; exit code 4 says that it works and is not faster here.
    Of a checkpoint, mean, std, size, crop and filter are those of timm's data config unless given.
    With --tensorrt an artifact folder will do: engines are built for the GPU that is here, run and
    checked; without one, or with --gpu, they are built ahead of time by TensorRT-RTX, and not run.
    With --mobile, too: each precision is written to mobile/ in ONNX Runtime's format, checked.

    Example: stillroom export runs/mine

    Example: stillroom export runs/mine --precision int8

    Example: stillroom export runs/mine --tensorrt --gpu sm86 --gpu sm89

    Example: stillroom export --checkpoint w.safetensors --model resnet18 --labels labels.txt
    """
    from stillroom.commands.artifact.import_options import refuse_mixed_export

    imported = {
        "--model": model,
        "--weights-key": weights_key,
        "--labels": labels,
        "--photos": photos,
        "--out": out,
        "--mean": mean,
        "--std": std,
        "--size": size,
        "--crop-pct": crop_pct,
        "--interpolation": interpolation,
    }
    refuse_mixed_export(run, checkpoint, imported)
    if gpus and not tensorrt:
        raise UsageError("--gpu belongs to --tensorrt.", "Add --tensorrt, or leave --gpu out.")
    if run is not None:
        code = 0
        if not ((tensorrt or mobile) and (run / "model.onnx").is_file()):
            from stillroom.commands.artifact.export_run import export_run

            told = [*(overrides or ()), *(["export.strict=true"] if strict else [])]
            code = export_run(run, told, precision or [])
        if tensorrt:
            resolve_name(ENGINES)(run, gpus or [])
        if mobile:
            resolve_name(MOBILE)(run)
        raise typer.Exit(code)
    if tensorrt or mobile:
        raise UsageError(
            "--tensorrt and --mobile are for a run or an artifact folder.",
            "Export the checkpoint first, then: stillroom export ARTIFACT --tensorrt",
        )
    if precision:
        raise UsageError(
            "--precision is for a run: int8 is calibrated on its training images.",
            "Leave --precision out.",
        )
    if checkpoint is not None and model is not None and labels is not None:
        choice = choice_of(size, crop_pct, interpolation, mean, std)
        key = weights_key or ""
        request = resolve_name(f"{IMPORT}:ImportRequest")(
            checkpoint, model, labels, photos, out, choice, strict, key
        )
        resolve_name(f"{IMPORT}:import_checkpoint")(request)

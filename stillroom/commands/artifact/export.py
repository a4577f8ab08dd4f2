"""`stillroom export` and `stillroom parity`: files behind the gate, and the gate by itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve.contract.errors import UsageError

if TYPE_CHECKING:
    from export.foreign.preprocess_choice import PreprocessChoice

__all__ = ["export", "parity"]

Labels = Annotated[
    Path | None, typer.Option(help="File of class names, one a line, in the order of the outputs.")
]
Mean = Annotated[str | None, typer.Option(help="Of RGB in [0, 1]: 0.5,0.5,0.5")]
Std = Annotated[str | None, typer.Option(help="Of RGB in [0, 1]: 0.5,0.5,0.5")]
Size = Annotated[int | None, typer.Option(help="Side of what the model sees, px.")]
Crop = Annotated[float | None, typer.Option(help="Share of the shorter side that is seen, 0 to 1.")]
Filter = Annotated[str | None, typer.Option(help="bilinear, bicubic or lanczos.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail where too few images were given to say.")
]


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

    The artifact appears only if its answers are those of the checkpoint. A file of reduced
    precision gets an artifact of its own; exit code 4 says that it works and is no faster here.
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
            from stillroom.commands.artifact.tensorrt import build_engines

            build_engines(run, gpus or [])
        if mobile:
            from stillroom.commands.artifact.mobile import write_mobile

            write_mobile(run)
        raise typer.Exit(code)
    if tensorrt or mobile:
        raise UsageError(
            "--tensorrt and --mobile are for a run or an artifact folder.",
            "Export the checkpoint first, then: stillroom export ARTIFACT --tensorrt",
        )
    if precision:
        raise UsageError(
            "--precision is for a run: int8 is calibrated on its training photographs.",
            "Leave --precision out.",
        )
    if checkpoint is not None and model is not None and labels is not None:
        from stillroom.commands.artifact.import_checkpoint import ImportRequest, import_checkpoint

        choice = _choice(size, crop_pct, interpolation, mean, std)
        key = weights_key or ""
        request = ImportRequest(checkpoint, model, labels, photos, out, choice, strict, key)
        import_checkpoint(request)


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
    """Compare answers on this machine with an artifact's stored ones; or two ONNX classifiers.

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
        from stillroom.run.status import stale_note

        if note := stale_note(target):
            sys.stderr.write(f"{note}\n")
        check_local_parity(target, photos, out=out, strict=strict)
    elif reference is not None and candidate is not None and photos is not None:
        from stillroom.parity.two_files import FilesRequest, compare_files

        choice = _choice(size, crop_pct, interpolation, mean, std)
        compare_files(
            FilesRequest(
                reference, candidate, photos, precision or "fp32", choice, labels, out, strict
            )
        )


def _choice(
    size: int | None,
    crop_pct: float | None,
    interpolation: str | None,
    mean: str | None,
    std: str | None,
) -> PreprocessChoice:
    from export.foreign.preprocess_choice import PreprocessChoice, parse_triple

    triples = parse_triple("--mean", mean), parse_triple("--std", std)
    return PreprocessChoice(size, crop_pct, interpolation, *triples)

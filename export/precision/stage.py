"""The stage of one reduced precision: the fp32 file -> fp16 or int8 -> verdict -> an artifact."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from export.gate import ReferenceModel, ReferenceSet, judge_file
from export.onnx_graph import check_structure
from export.options import ExportOptions
from export.parity.image_choice import calibration_images
from export.precision.fp16 import write_fp16
from export.precision.quantize import Target
from export.precision.search import FileVerdict, Search, search_int8
from export.precision.speedup import Benefit, measure_benefit, measure_speedup
from export.publish import publish, require_images
from export.stage import gate_of
from serve.contract.artifact import MODEL
from serve.contract.digest import canonical_json
from serve.contract.errors import GateError
from train.data.dataset import Dataset
from train.data.images import LabelledImage
from train.engine.progress import say
from train.loader.views import pixels_of
from train.models.checkpoint import load_checkpoint

__all__ = ["BENEFIT", "export_precision", "write_precision"]

BENEFIT = "benefit.json"  # what was timed here; no digest covers it


def export_precision(
    dataset: Dataset,
    source: Path,
    artifact: Path,
    precision: str,
    options: ExportOptions,
    *,
    name: str,
    out: Path,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Make a smaller file of a published fp32 one and write its artifact, if its predictions hold.

    Writes what `export.stage.export_artifact` writes, and benefit.json: how much faster it is than
    fp32 here, and for int8 what was tried.

    Args:
        dataset: val decides, training images calibrate, test is reported.
        source: the checkpoint's folder; PyTorch is the reference, not the fp32 file.
        artifact: folder of the fp32 artifact.
        precision: of `export.options.REDUCED`.
        options: limits, number of calibration images.
        name: of the model.
        out: the stage's folder.

    Returns:
        Headline metrics, and the artifact's fields for the manifest.

    Raises:
        GateError: no file of that precision answers as the checkpoint does, or too few images are
            there to say so; nothing may be published.
    """
    model, card = load_checkpoint(source)
    target = "tensorrt" if precision == "int8-tensorrt" else ""
    subject = ReferenceModel(model, card, name, precision.partition("-")[0], target)
    gate = gate_of(dataset, subject, options)
    fp32, path = artifact / MODEL, out / MODEL
    made, tried = write_precision(dataset, subject, gate, fp32, options, path)
    test = ReferenceSet.of(dataset, dataset.of_split("test"), subject)
    metrics, fields = publish(
        subject, gate, test, options, out=out, suspects=partial(replace, fp32=fp32), extra=made
    )
    benefit = None if target else measure_benefit(fp32, [path])[0]
    facts = {"benefit": benefit.to_dict() if benefit else None, "tried": tried}
    (out / BENEFIT).write_bytes(canonical_json(facts))
    if benefit:
        say(f"  {sentence_of(benefit, subject.precision)}")
    return metrics, fields


def write_precision(
    dataset: Dataset,
    subject: ReferenceModel,
    gate: ReferenceSet,
    fp32: Path,
    options: ExportOptions,
    path: Path,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Make the file alone.

    Args:
        dataset: its training images calibrate.
        subject: precision and target of the file.
        gate: images that decide which layers int8 leaves in float.
        fp32: ONNX file of the same model.
        options: limits, number of calibration images.
        path: of the file.

    Returns:
        What the manifest says of it; and for int8 what was tried.

    Raises:
        GateError: no int8 file passes the gate, or too few images are there to say so. An fp16
            file is not judged here.
    """
    require_images(subject, len(gate.photos), options)
    made: dict[str, Any] = {}
    tried: dict[str, Any] | None = None
    if subject.precision == "fp16":
        write_fp16(fp32, path)
    else:
        photos = _calibration(dataset, gate, options.calibration_images)
        target: Target = "tensorrt" if subject.target else "onnxruntime"
        search = search_int8(
            fp32,
            path,
            pixels_of(dataset.root, photos, subject.card.preprocess),
            judge_file=partial(_judged, subject, gate, options),
            speedup_of=None if subject.target else partial(measure_speedup, fp32),
            target=target,
        )
        _require_file(search, subject)
        tried = search.to_dict()
        kept = list(search.chosen.keep_float) if search.chosen else []
        made = {"kept_float": kept, "calibration_images": len(photos)}
        if len(photos) < options.calibration_images:
            made["calibration_images_asked"] = options.calibration_images
    check_structure(path, subject.card, opset=options.opset)
    return made, tried


def _calibration(dataset: Dataset, gate: ReferenceSet, asked: int) -> list[LabelledImage]:
    """Images for the ranges of activations; says where they are fewer than asked for.

    Raises:
        GateError: none is left beside those of the gate.
    """
    photos = calibration_images(dataset, asked, list(gate.photos))
    train = len(dataset.of_split("train"))
    of_train = sum(photo.split == "train" for photo in gate.photos)
    why = f"of {train} training images the gate takes {of_train}"
    if not photos:
        raise GateError(
            f"No image is left to calibrate int8 on: {why}.",
            "Give more images of each class, or serve fp32.",
        )
    if len(photos) < asked:
        say(
            f"  warning: int8 is calibrated on {len(photos)} images, not on {asked} "
            f"(export.calibration_images): {why}, and none is used for both"
        )
    return photos


def sentence_of(benefit: Benefit, precision: str) -> str:
    """What was timed, in words."""
    one, many = benefit.latency, benefit.throughput
    return (
        f"{precision} is {benefit.verdict}: {one.median_ms:.2f} ms an image against "
        f"{one.baseline_ms:.2f} of fp32 ({one.speedup:.2f} times as fast, quartiles "
        f"{one.speedup_q1:.2f} to {one.speedup_q3:.2f}), {many.speedup:.2f} times in batches of "
        f"{many.batch}; {benefit.device}, one thread"
    )


def _judged(
    subject: ReferenceModel, gate: ReferenceSet, options: ExportOptions, path: Path
) -> FileVerdict:
    verdict = judge_file(subject, path, gate, None, options).verdict
    figures = {
        "status": verdict.status,
        "reasons": list(verdict.reasons),
        "flips": len(verdict.flips),
        "agreement": verdict.agreement,
        "snr_db": verdict.snr_db,
        "flip_margin": verdict.flip_margin,
    }
    return FileVerdict(verdict.status == "passed", figures)


def _require_file(search: Search, subject: ReferenceModel) -> None:
    """Stop where no attempt passed.

    Raises:
        GateError: says what the best attempt lacked, and what was tried.
    """
    if search.chosen:
        return
    last = search.attempts[-1]
    tried = ", ".join(
        f"{len(attempt.keep_float)} layers in float: SNR {attempt.figures['snr_db']:.1f} dB, "
        f"{attempt.figures['agreement']:.1%} agree"
        for attempt in search.attempts
    )
    why = "none passes"
    if search.status == "slower" and last.speedup is not None:
        why = f"the last is {last.speedup:.2f} times as fast as fp32, which is not worth it"
    raise GateError(
        f"PARITY FAIL {subject.title}: {'; '.join(last.figures['reasons'])}. Tried {tried}; {why}.",
        "Nothing was published. Serve fp32, or choose an architecture that int8 suits.",
    )

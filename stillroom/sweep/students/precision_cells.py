"""The cells of a search for a student, in fp16 and int8: made and judged as export does it."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from export.gate import ReferenceModel, judge_file
from export.onnx_graph import write_graph
from export.options import ExportOptions, deciding_export
from export.parity.machine import machine_identity
from export.precision.stage import write_precision
from export.stage import gate_of
from serve.contract.artifact import MODEL
from serve.contract.digest import digest_of_json
from serve.contract.errors import ArtifactError, GateError, MeasurementError, UsageError
from stillroom.sweep.lists import names
from stillroom.sweep.students.student_cells import (
    CELL,
    SCORES,
    SearchContext,
    StudentTrial,
    write_cell,
)
from stillroom.sweep.trial import PREDICTIONS
from train.evaluation import Predictions, evaluate, write_predictions
from train.models.checkpoint import load_checkpoint

__all__ = ["Refused", "precisions_of", "reduce_cell"]

FOR_CPUS = ("fp16", "int8")  # what ONNX Runtime runs on the CPU, which the pick goes by


@dataclass(frozen=True)
class Refused:
    """A precision in which a cell has no file.

    Args:
        cell: in fp32.
        precision: that was asked for.
        why: in a sentence.
    """

    cell: StudentTrial
    precision: str
    why: str


def precisions_of(text: str) -> tuple[str, ...]:
    """Those of `--precisions`, besides fp32.

    Raises:
        UsageError: one cannot be searched.
    """
    if not text:
        return ()
    found = names(text, "--precisions")
    for name in found:
        if name not in FOR_CPUS:
            raise UsageError(
                f"--precisions: {name} is none of {', '.join(FOR_CPUS)}.",
                "fp32 is always there. Files for TensorRT: stillroom export RUN --precision "
                "int8-tensorrt",
            )
    return found


def reduce_cell(
    course: SearchContext, cell: StudentTrial, precision: str
) -> StudentTrial | Refused:
    """Make a cell's file of another precision, or read the outcome where that is done.

    The gate is export's: what it refuses would not be served. A measurement that failed refuses it,
    too, and is not kept: the next search tries again.
    """
    options = course.subject.recipe.export
    folder = cell.folder / f"{precision}-{_key(options, precision)}"
    if not (folder / CELL).is_file():
        folder.mkdir(exist_ok=True)
        try:
            made = _made(course, cell, precision, folder)
        except (ArtifactError, GateError) as error:
            made = {"refused": error.message}
        except MeasurementError as error:
            shutil.rmtree(folder)
            return Refused(cell, precision, error.message)
        if made["refused"]:
            (folder / MODEL).unlink(missing_ok=True)
        write_cell(folder, made)
    value = json.loads((folder / CELL).read_bytes())
    if value["refused"]:
        return Refused(cell, precision, value["refused"])
    return replace(cell, folder=folder, precision=precision, scores=value["scores"])


def _key(options: ExportOptions, precision: str) -> str:
    """Digest of all that decides: the machine too, as int8 is refused where it is not faster."""
    deciding = deciding_export(options, precision)
    for name in ("source", "golden_images", "strict"):
        del deciding[name]
    own = asdict(options.parity.of(precision))
    deciding["parity"] = {"min_images": options.parity.min_images, precision: own}
    return digest_of_json({**deciding, "machine": machine_identity()})[:10]


def _made(
    course: SearchContext, cell: StudentTrial, precision: str, folder: Path
) -> dict[str, Any]:
    options, dataset = course.subject.recipe.export, course.subject.dataset
    model, card = load_checkpoint(cell.folder)
    subject, path = ReferenceModel(model, card, cell.name, precision), folder / MODEL
    gate = gate_of(dataset, subject, options)
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        fp32 = Path(scratch) / MODEL
        write_graph(model, card, fp32, opset=options.opset)
        made, _ = write_precision(dataset, subject, gate, fp32, options, path)
    judged = judge_file(subject, path, gate, None, options)
    if judged.verdict.status != "passed":
        why = "; ".join(judged.verdict.reasons)
        return {"refused": f"PARITY {judged.verdict.status.upper()} {subject.title}: {why}."}
    val = dataset.of_split("val")  # the first of the gate's images
    predictions = Predictions(val, card.labels, judged.logits[: len(val)])
    write_predictions(folder / PREDICTIONS, predictions)
    figures = evaluate(predictions)
    return {"refused": "", "scores": {name: figures[name] for name in SCORES}, **made}

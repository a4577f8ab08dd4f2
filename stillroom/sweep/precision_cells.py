"""The cells of a search for a student, in fp16 and int8: made and judged as export does it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from export.candidate import Subject, judge_file
from export.graph import write_graph
from export.options import deciding_export
from export.precision_stage import write_precision
from export.stage import gate_of
from serve.contract.artifact import MODEL
from serve.contract.digest import digest_of_json
from serve.contract.errors import GateError, UsageError
from stillroom.sweep.lists import names
from stillroom.sweep.student_cells import CELL, SCORES, Cell, Course, write_cell
from stillroom.sweep.trial import PREDICTIONS
from train.checkpoint import load_checkpoint
from train.evaluate import Predictions, evaluate, write_predictions

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

    cell: Cell
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


def reduce_cell(course: Course, cell: Cell, precision: str) -> Cell | Refused:
    """Make a cell's file of another precision, or read the outcome where that is done.

    The gate is export's: what it refuses would not be served.
    """
    options = course.subject.recipe.export
    key = digest_of_json(deciding_export(options, precision))[:10]
    folder = cell.folder / f"{precision}-{key}"
    if not (folder / CELL).is_file():
        folder.mkdir(exist_ok=True)
        write_cell(folder, _made(course, cell, precision, folder))
    value = json.loads((folder / CELL).read_bytes())
    if value["refused"]:
        return Refused(cell, precision, value["refused"])
    return replace(cell, folder=folder, precision=precision, scores=value["scores"])


def _made(course: Course, cell: Cell, precision: str, folder: Path) -> dict[str, Any]:
    options, dataset = course.subject.recipe.export, course.subject.dataset
    model, card = load_checkpoint(cell.folder)
    subject, path = Subject(model, card, cell.name, precision), folder / MODEL
    gate = gate_of(dataset, subject, options)
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        fp32 = Path(scratch) / MODEL
        write_graph(model, card, fp32, opset=options.opset)
        try:
            made, _ = write_precision(dataset, subject, gate, fp32, options, path)
        except GateError as error:
            return {"refused": error.message}
    judged = judge_file(subject, path, gate, None, options)
    if judged.verdict.status != "passed":
        path.unlink()
        why = "; ".join(judged.verdict.reasons)
        return {"refused": f"PARITY {judged.verdict.status.upper()} {subject.title}: {why}."}
    val = dataset.of_split("val")  # the first of the gate's photographs
    predictions = Predictions(val, card.labels, judged.logits[: len(val)])
    write_predictions(folder / PREDICTIONS, predictions)
    figures = evaluate(predictions)
    return {"refused": "", "scores": {name: figures[name] for name in SCORES}, **made}

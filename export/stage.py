"""The export stage: checkpoint -> ONNX -> verdict -> the files of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export.gate import ReferenceModel, ReferenceSet
from export.onnx_graph import check_structure, write_graph
from export.options import ExportOptions, ParityLimits
from export.parity.image_choice import gate_images
from export.parity.predictions import compare_predictions
from export.publish import publish
from serve.contract.artifact import MODEL
from serve.contract.errors import GateError
from train.data.dataset import Dataset
from train.evaluation import Predictions, read_predictions
from train.models.checkpoint import load_checkpoint

__all__ = ["export_artifact", "gate_of"]


def export_artifact(
    dataset: Dataset, source: Path, options: ExportOptions, *, name: str, out: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Export a checkpoint and write the artifact's files, if its predictions hold.

    Args:
        dataset: its val split is what parity is judged on; test is reported.
        source: a folder with a checkpoint and its predictions.csv.
        options: opset, limits.
        name: of the model.
        out: the stage's folder.

    Returns:
        Headline metrics, and the artifact's fields for the manifest.

    Raises:
        GateError: the exported graph answers differently; nothing may be published.
    """
    model, card = load_checkpoint(source)
    path = out / MODEL
    write_graph(model, card, path, opset=options.opset)
    check_structure(path, card, opset=options.opset)
    subject = ReferenceModel(model, card, name)
    test = ReferenceSet.of(dataset, dataset.of_split("test"), subject)
    _check_training_answers(test.predictions, source, options.parity)
    return publish(subject, gate_of(dataset, subject, options), test, options, out=out)


def gate_of(dataset: Dataset, subject: ReferenceModel, options: ExportOptions) -> ReferenceSet:
    """The images that decide."""
    calibration = options.calibration_images if subject.precision == "int8" else 0
    photos = gate_images(dataset, options.parity.min_images, calibration=calibration)
    return ReferenceSet.of(dataset, photos, subject)


def _check_training_answers(reference: Predictions, source: Path, limits: ParityLimits) -> None:
    """The reference must answer as it did when it was evaluated after training.

    Not bit for bit: another machine or number of threads rounds otherwise.
    """
    trained = read_predictions(source / "predictions.csv").of_split("test")
    same_images = [p.sha256 for p in trained.photos] == [p.sha256 for p in reference.photos]
    same = same_images and trained.labels == reference.labels
    if same:
        verdict = compare_predictions(
            trained, reference.logits, limits.fp32, min_images=limits.min_images
        )
        same = verdict.status != "failed"
    if not same:
        raise GateError(
            f"The checkpoint in {source} no longer answers as its predictions.csv says.",
            "Train again, or restore the folder. Nothing was published.",
        )

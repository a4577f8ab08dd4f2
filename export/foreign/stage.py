"""An imported checkpoint -> ONNX -> verdict -> the files of an artifact, as `export.stage`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sklearn.datasets
from scipy.stats import binomtest

from export.gate import ReferenceModel, ReferenceSet
from export.onnx_graph import check_structure, write_graph
from export.options import ExportOptions
from export.parity.compare import ModelOutputs
from export.parity.image_set import read_image_set
from export.publish import publish
from serve.contract.artifact import MODEL
from train.engine.progress import say
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier

__all__ = ["export_imported", "sample_images"]

GUESSING = 0.01  # p of a model that answers at random


def export_imported(
    model: ImageClassifier, card: ModelCard, photos: Path, options: ExportOptions, out: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Export a model and write an artifact's files, if the predictions hold.

    Args:
        model: in evaluation mode, on the CPU.
        card: of the model.
        photos: folder or list of images such as the model was trained for; labels are not needed.
        options: limits, and how strict they are.
        out: the folder of the files; it exists.

    Returns:
        Headline metrics, and the artifact's fields for the manifest.

    Raises:
        GateError: the exported graph answers differently, or with `strict` too few images were
            given to say; nothing may be published.
        StillroomError: torch cannot export this architecture.
    """
    probes = read_image_set(photos, card.preprocess, card.labels)
    if probes.left_out:
        say(f"  {len(probes.left_out)} images do not decode, first {probes.left_out[0]}")
    path = out / MODEL
    write_graph(model, card, path, opset=options.opset)
    check_structure(path, card, opset=options.opset)
    subject = ReferenceModel(model, card, card.arch)
    reference = ModelOutputs(
        probes.names,
        probes.sha256,
        card.labels,
        subject.logits_of(probes.pixels),
        probes.targets,
    )
    gate = ReferenceSet(probes.root, probes.photos, probes.pixels, reference)
    metrics, fields = publish(
        subject, gate, None, options, out=out, advice="Give a folder of more images with --photos."
    )
    if probes.targets is not None:
        _say_accuracy(fields["parity"]["reference_top1"], len(probes.photos), len(card.labels))
    return metrics, fields


def _say_accuracy(top1: float, images: int, classes: int) -> None:
    """What parity cannot see: both sides share labels and normalisation that are wrong."""
    say(f"  top-1 {top1:.1%} of {images} images, by the names of their folders")
    if classes == 1 or classes**-images >= GUESSING:
        return  # not even answers that are all right would show it
    right = round(top1 * images)
    if binomtest(right, images, 1 / classes, alternative="greater").pvalue > GUESSING:
        say(
            "  warning: that is not shown to be better than guessing. Check the order of "
            "--labels, and --mean, --std and --size."
        )


def sample_images() -> Path:
    """The folder of the two images that come with scikit-learn."""
    return Path(sklearn.datasets.__file__).parent / "images"

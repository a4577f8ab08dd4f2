"""An artifact with random weights: speed does not ask for trained ones."""

from __future__ import annotations

from pathlib import Path

from benchmarks.onnx_families import CLASSES, pixels_for, random_model
from export.foreign.stage import export_imported
from export.options import ExportOptions
from serve.contract.manifest import write_manifest
from serve.contract.preprocess import PreprocessSpec
from train.models.checkpoint import ModelCard

__all__ = ["write_random_artifact"]


def write_random_artifact(arch: str, size_px: int, photos: Path, out: Path) -> None:
    """Export through the product, with its verdict and golden images.

    Args:
        arch: timm name.
        size_px: side of the square that the model sees.
        photos: batch norm's statistics are those of some of them; the verdict is on them.
        out: the artifact's folder; made here.

    Raises:
        GateError: the exported graph answers differently.
    """
    model = random_model(arch, pixels_for(photos, size_px))
    labels = tuple(f"class {number}" for number in range(CLASSES))
    card = ModelCard.of(
        model,
        labels=labels,
        preprocess=PreprocessSpec(size_px),
        train_size_px=size_px,
        dataset_digest="",
    )
    out.mkdir(parents=True)
    metrics, fields = export_imported(model, card, photos, ExportOptions(), out)
    write_manifest(out, {"kind": "artifact", "parents": {}, "metrics": metrics, **fields})

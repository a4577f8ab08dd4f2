"""Golden images: a few image files of an artifact with the logits that the reference gave them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.contract.artifact import Artifact
from serve.contract.errors import ArtifactError

__all__ = ["GoldenImage", "load_golden"]

GOLDEN = "golden/golden.json"


@dataclass(frozen=True)
class GoldenImage:
    """An image whose answer is stored with the artifact.

    Args:
        path: the image file, unchanged.
        pixels_sha256: of the (size_px, size_px, 3) uint8 pixels after preprocessing.
        logits: (K,) float32, of the reference model.
    """

    path: Path
    pixels_sha256: str
    logits: NDArray[np.float32]


def load_golden(artifact: Artifact) -> list[GoldenImage]:
    """The golden images with their stored logits.

    Raises:
        ArtifactError: golden.json does not fit the labels.
    """
    entries = json.loads((artifact.root / GOLDEN).read_bytes())
    golden = []
    for entry in entries:
        logits = np.asarray(entry["logits"], dtype=np.float32)
        if logits.shape != (len(artifact.labels),):
            raise ArtifactError(
                f"Golden image {entry['file']} has {logits.size} logits for "
                f"{len(artifact.labels)} labels.",
                "Export the artifact again.",
            )
        path = artifact.root / "golden" / entry["file"]
        golden.append(GoldenImage(path, entry["pixels_sha256"], logits))
    return golden

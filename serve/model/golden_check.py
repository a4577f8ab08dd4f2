"""Verify: before a server says it is ready, it predicts the golden images as the artifact says.

Digests prove that the files are the ones that were exported. The golden images prove that *this*
machine, with its Pillow, its ONNX Runtime and its backend, computes what was measured.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from serve.contract.artifact import Artifact
from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import ArtifactError
from serve.contract.preprocess import NO_LIMITS, preprocess
from serve.runners.base import Runner

__all__ = ["GoldenCheck", "GoldenImage", "load_golden", "replay_golden", "warm_up"]

GOLDEN = "golden/golden.json"


@dataclass(frozen=True)
class GoldenImage:
    """An image whose logits are stored with the artifact.

    Args:
        path: the image file, unchanged.
        pixels_sha256: of the (size_px, size_px, 3) uint8 pixels after preprocessing.
        logits: (K,) float32, of the reference model.
    """

    path: Path
    pixels_sha256: str
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class GoldenCheck:
    """Outcome of a replay that passed.

    Args:
        images: number of golden images.
        max_logit_diff: largest absolute difference from the stored logits.
        atol: the limit it was held against.
        equal_pixels: images whose pixels are the stored ones, bit for bit.
        note: why pixels may differ here; empty when all are equal.
    """

    images: int
    max_logit_diff: float
    atol: float
    equal_pixels: int
    note: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form for /v1/model."""
        return asdict(self)


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


def replay_golden(artifact: Artifact, runner: Runner) -> GoldenCheck:
    """Predict every golden image and compare.

    Raises:
        ArtifactError: other pixels with the same Pillow, logits beyond `artifact.golden_atol`, or
            another top-1.
    """
    golden = load_golden(artifact)
    if not golden:
        raise ArtifactError("The artifact has no golden images.", "Export the artifact again.")
    worst, equal, note = 0.0, 0, ""
    for image in golden:
        pixels = preprocess(image.path.read_bytes(), artifact.preprocess, NO_LIMITS)
        if sha256_of_bytes(pixels.tobytes()) == image.pixels_sha256:
            equal += 1
        else:
            note = _explain_pixels(artifact, image)
        worst = max(worst, _compare(image, runner.infer(pixels[None])[0], artifact, runner, note))
    return GoldenCheck(len(golden), worst, artifact.golden_atol, equal, note)


def warm_up(artifact: Artifact, runner: Runner) -> None:
    """Run every batch size once, so that no client pays for lazy allocation.

    The largest comes first: the smaller ones then fit into what it left. In rising order ONNX
    Runtime's arena of a ResNet-18 at 224 px ends 15 MiB larger.
    """
    side = artifact.preprocess.size_px
    for size in range(runner.max_batch_size, 0, -1):
        runner.infer(np.zeros((size, side, side, 3), dtype=np.uint8))


def _compare(
    image: GoldenImage,
    logits: NDArray[np.float32],
    artifact: Artifact,
    runner: Runner,
    note: str,
) -> float:
    diff = float(np.abs(logits.astype(np.float64) - image.logits).max())
    same_top1 = int(logits.argmax()) == int(image.logits.argmax())
    if diff <= artifact.golden_atol and same_top1:  # false for NaN
        return diff
    what = f"logits differ by {diff:.3g}, at most {artifact.golden_atol:.3g} is allowed"
    if not same_top1:
        what = (
            f"top-1 is {artifact.labels[int(logits.argmax())]!r}, stored is "
            f"{artifact.labels[int(image.logits.argmax())]!r}"
        )
    raise ArtifactError(
        f"Golden image {image.path.name} is predicted wrongly on {runner.backend}: {what}. {note}",
        "It is not served. Try another STILLROOM_BACKEND, or export the artifact on this machine.",
    )


def _explain_pixels(artifact: Artifact, image: GoldenImage) -> str:
    exported = str(artifact.manifest.get("pillow", "an unknown version"))
    if exported == PIL.__version__:
        raise ArtifactError(
            f"Golden image {image.path.name} gives other pixels than at export, though Pillow is "
            f"{PIL.__version__} in both.",
            "Reinstall Pillow, or export the artifact again.",
        )
    return f"Pixels differ from export: Pillow was {exported} there and is {PIL.__version__} here."

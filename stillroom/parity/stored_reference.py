"""The reference predictions that an artifact keeps, and a runner judged by them. No torch."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from export.options import ParityLimits
from export.parity.batching import batch_invariance, mixed_batch_logits
from export.parity.compare import ModelOutputs, compare_outputs
from export.parity.tolerances import LIMITS, Precision, Tolerances
from export.parity.verdict import Verdict
from serve.contract.artifact import Artifact
from serve.contract.reference import stored_reference
from serve.runners.base import Runner

__all__ = ["compare_runner", "said_at_export", "stored_reference", "tolerances_here"]

PARITY = "parity.json"


def said_at_export(artifact: Artifact) -> dict[str, Any]:
    """parity.json as it was published."""
    said: dict[str, Any] = json.loads((artifact.root / PARITY).read_bytes())
    return said


def compare_runner(
    artifact: Artifact, runner: Runner, reference: ModelOutputs, pixels: NDArray[np.uint8]
) -> Verdict:
    """Ask a runner in batches of mixed sizes and alone; compare by the artifact's own limits.

    Args:
        artifact: whose limits are used.
        runner: the very one that serves here.
        reference: stored predictions of N images.
        pixels: (N, size_px, size_px, 3) uint8 of the same images.

    Raises:
        ValueError: no image.
        GateError: the stored predictions are not finite.
    """
    said = said_at_export(artifact)
    candidate = mixed_batch_logits(runner, pixels)
    return compare_outputs(
        reference,
        candidate,
        tolerances_here(artifact, said, str(runner.describe()["backend"])),
        min_images=int(said.get("min_images", ParityLimits.min_images)),
        invariance=batch_invariance(runner, pixels, candidate),
    )


def tolerances_here(artifact: Artifact, said: dict[str, Any], backend: str) -> Tolerances:
    """Those that the artifact was published with, where its parity.json has them.

    GPUs multiply fp32 matrices as TF32, whose mantissa is that of fp16.
    """
    if artifact.precision == "fp32" and backend.startswith(("onnxruntime-cuda", "tensorrt")):
        return LIMITS["fp16"]
    stored = said.get("limits", {})
    if stored.keys() == {field.name for field in fields(Tolerances)}:
        return Tolerances(**stored)
    return LIMITS[cast("Precision", artifact.precision)]

"""The parity verdict of `train.evaluation.Predictions`; `compare.py` compares the numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.parity import compare as judging
from export.parity.compare import ModelOutputs, snr_db
from export.parity.statistics import agreement_lower_bound, mcnemar_p
from export.parity.tolerances import Tolerances
from export.parity.verdict import Flip, Verdict, require_pass, write_flips
from train.evaluation import Predictions

__all__ = [
    "Flip",
    "Verdict",
    "agreement_lower_bound",
    "compare_predictions",
    "mcnemar_p",
    "outputs_of",
    "require_pass",
    "snr_db",
    "write_flips",
]

Logits = NDArray[np.float32]


def compare_predictions(
    reference: Predictions,
    candidate: Logits,
    limits: Tolerances,
    *,
    min_images: int,
    invariance: float | None = None,
    blank: tuple[Logits, Logits] | None = None,
) -> Verdict:
    """`export.parity.compare.compare_outputs` on labelled images; see there."""
    return judging.compare_outputs(
        outputs_of(reference),
        candidate,
        limits,
        min_images=min_images,
        invariance=invariance,
        blank=blank,
    )


def outputs_of(predictions: Predictions) -> ModelOutputs:
    """What a model answered, by the paths of the images."""
    return ModelOutputs(
        names=tuple(photo.path for photo in predictions.photos),
        sha256=tuple(photo.sha256 for photo in predictions.photos),
        labels=predictions.labels,
        logits=predictions.logits,
        targets=predictions.targets,
    )

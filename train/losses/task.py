"""What a stage teaches beside the labels of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from train.data.images import LabelledImage
from train.losses.objective import Objective

__all__ = ["TrainingTask"]


@dataclass(frozen=True)
class TrainingTask:
    """What the phases that train all layers do; the classifier alone learns from labels only.

    Args:
        objective: forward and loss.
        view_px: side of the views that it asks for; 0 is the training size.
        unlabelled: further training images, with absolute paths and empty labels.
        answers: (N, M) float32: figures that the objective gets with the label of each training
            image, then of each unlabelled one (`train.loader.soft_targets`).
        val_answers: (n, K) logits on the val split, which every epoch is compared with.
        lineage: digests of all that; a state of another lesson is not resumed from.
    """

    objective: Objective
    view_px: int = 0
    unlabelled: tuple[LabelledImage, ...] = ()
    answers: NDArray[np.float32] | None = None
    val_answers: NDArray[np.float32] | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)

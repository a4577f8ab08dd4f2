"""Teachers: trained models whose answers a student learns; several speak as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from compress.dataset_match import check_same_task
from serve.contract.digest import sha256_of_file
from train.data.dataset import Dataset
from train.data.images import LabelledImage
from train.evaluation import predict_logits
from train.loader.views import pixels_of
from train.models.checkpoint import WEIGHTS, ModelCard, load_checkpoint
from train.models.classifier import ImageClassifier

__all__ = ["Teacher", "mean_logits", "open_teachers", "teacher_logits"]

DECODED = 512  # images in memory at once


def mean_logits(logits: Sequence[Tensor], *, temperature: float) -> Tensor:
    """Logits whose softened probabilities are the mean of the teachers' softened probabilities.

    The mean of probabilities and not of logits: a teacher that is sure does not outvote the others
    by the scale of its logits.

    Args:
        logits: (N, K) of each teacher, raw.
        temperature: > 0, that they are softened with.

    Returns:
        (N, K); of one teacher its own logits, bit for bit.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 1: of an ensemble the arithmetic mean of
        the predictive distributions is the soft target.
    """
    if len(logits) == 1:
        return logits[0]
    log_p = torch.stack([F.log_softmax(one.float() / temperature, dim=1) for one in logits])
    return temperature * (log_p.logsumexp(0) - math.log(len(logits)))


@dataclass(frozen=True)
class Teacher:
    """One teacher, which was trained on the student's images.

    Args:
        folder: of its checkpoint.
        model: in evaluation mode; normalises with its own mean and std.
        card: of the model.
    """

    folder: Path
    model: ImageClassifier
    card: ModelCard

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "arch": self.card.arch,
            "checkpoint_sha256": sha256_of_file(self.folder / WEIGHTS),
            "size_px": self.card.preprocess.size_px,
        }


def open_teachers(folders: Sequence[Path], dataset: Dataset) -> list[Teacher]:
    """Load teachers and check each.

    Raises:
        CheckpointError: one is damaged, has other classes or another order of them, or was trained
            on another dataset; names its folder.
    """
    teachers = []
    for folder in folders:
        model, card = load_checkpoint(folder)
        check_same_task(card, dataset, folder)
        teachers.append(Teacher(folder, model, card))
    return teachers


def teacher_logits(
    teachers: Sequence[Teacher],
    root: Path,
    photos: Sequence[LabelledImage],
    *,
    temperature: float = 1.0,
) -> NDArray[np.float32]:
    """What the teachers say of images that each sees through its own evaluation transform.

    Returns:
        (N, K) logits, of several teachers as `mean_logits`.
    """
    parts = []
    for start in range(0, len(photos), DECODED):
        some = list(photos[start : start + DECODED])
        each = [
            torch.from_numpy(predict_logits(t.model, pixels_of(root, some, t.card.preprocess)))
            for t in teachers
        ]
        parts.append(mean_logits(each, temperature=temperature).numpy())
    classes = len(teachers[0].card.labels)
    return np.concatenate(parts) if parts else np.zeros((0, classes), np.float32)

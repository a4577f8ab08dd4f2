"""Labels that may be wrong: where a model that never saw the image firmly disagrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from train.data.images import LabelledImage
from train.evaluation import Predictions

__all__ = ["LabelIssue", "confident_classes", "suspect_labels"]

OUT_OF_SAMPLE = ("val", "test")


@dataclass(frozen=True)
class LabelIssue:
    """A label to look at.

    Args:
        photo: with the label it has.
        suggestion: the class that it is confidently counted to.
        self_confidence: probability of the label it has.
        probability: of the suggestion.
        margin: probability of its label minus that of the best other class; the rank goes by it.
    """

    photo: LabelledImage
    suggestion: str
    self_confidence: float
    probability: float
    margin: float


def confident_classes(
    probabilities: NDArray[np.float64], targets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The class that each image is confidently counted to.

    A class counts an image when it is given at least the mean probability that images of that class
    are given for it; of several such classes the most probable counts.

    Args:
        probabilities: (N, K), of a model that was not trained on these images.
        targets: (N,) given labels.

    Returns:
        (N,) class numbers; -1 where no class counts the image.

    Source: Northcutt et al. 2021, arXiv:1911.00068, equations 1 and 2.
    """
    thresholds = np.full(probabilities.shape[1], np.inf)
    for k in np.unique(targets):
        thresholds[k] = probabilities[targets == k, k].mean()
    counted = np.where(probabilities >= thresholds, probabilities, -1.0)
    best = counted.argmax(axis=1).astype(np.int64)
    return np.where(counted.max(axis=1) >= 0, best, -1)


def suspect_labels(predictions: Predictions) -> list[LabelIssue]:
    """Validation and test images that are confidently counted to another class, worst first.

    These are the off-diagonal entries of the paper's confident joint, without those whose best
    answer is the label all the same; ranked by normalised margin.

    Args:
        predictions: of all splits; training images are left out, for a model learns wrong labels
            by memory.
    """
    chosen = [i for i, photo in enumerate(predictions.photos) if photo.split in OUT_OF_SAMPLE]
    if not chosen:
        return []
    held_out = Predictions(
        [predictions.photos[i] for i in chosen], predictions.labels, predictions.logits[chosen]
    )
    targets, answers = held_out.targets, held_out.predicted
    probabilities = softmax(held_out.logits.astype(np.float64), axis=1)
    counted = confident_classes(probabilities, targets)
    rows = np.arange(len(targets))
    own = probabilities[rows, targets]
    others = probabilities.copy()
    others[rows, targets] = -1
    margins = own - others.max(axis=1)
    suspects = np.flatnonzero((counted >= 0) & (counted != targets) & (answers != targets))
    order = sorted(suspects, key=lambda i: (margins[i], held_out.photos[i].path))
    return [
        LabelIssue(
            photo=held_out.photos[i],
            suggestion=held_out.labels[counted[i]],
            self_confidence=float(own[i]),
            probability=float(probabilities[i, counted[i]]),
            margin=float(margins[i]),
        )
        for i in order
    ]

"""Where a model errs, and whether it knows: confident mistakes, confused pairs, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from train.data.images import LabelledImage
from train.evaluation import ECE_BINS, Predictions, wilson_interval

__all__ = [
    "Bin",
    "ConfusedPair",
    "Mistake",
    "confident_mistakes",
    "confused_pairs",
    "mistakes_by_pair",
    "reliability_bins",
]


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction with the probabilities of the answer and of the truth."""

    photo: LabelledImage
    answer: str
    probability: float
    truth_probability: float


@dataclass(frozen=True)
class ConfusedPair:
    """How many images of `label`, of n, were answered with `answer`."""

    label: str
    answer: str
    count: int
    n: int


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence: their mean confidence, and the share right with its interval."""

    n: int
    confidence: float
    right: float
    low: float
    high: float


def confident_mistakes(predictions: Predictions, limit: int) -> list[Mistake]:
    """Wrong predictions, the most confident first."""
    probabilities = softmax(predictions.logits.astype(np.float64), axis=1)
    targets, answers = predictions.targets, predictions.predicted
    wrong = np.flatnonzero(answers != targets)
    order = sorted(wrong, key=lambda i: (-probabilities[i, answers[i]], predictions.photos[i].path))
    return [
        Mistake(
            photo=predictions.photos[i],
            answer=predictions.labels[answers[i]],
            probability=float(probabilities[i, answers[i]]),
            truth_probability=float(probabilities[i, targets[i]]),
        )
        for i in order[:limit]
    ]


def confused_pairs(confusion: list[list[int]], labels: list[str], limit: int) -> list[ConfusedPair]:
    """Cells off the diagonal of a confusion matrix (rows are true classes), the fullest first."""
    pairs = [
        ConfusedPair(labels[i], labels[j], value, sum(row))
        for i, row in enumerate(confusion)
        for j, value in enumerate(row)
        if i != j and value
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, pair.label, pair.answer))[:limit]


def reliability_bins(predictions: Predictions) -> list[Bin]:
    """The occupied bins of the expected calibration error, by rising confidence."""
    probabilities = softmax(predictions.logits.astype(np.float64), axis=1)
    confidence = probabilities.max(1)
    right = predictions.predicted == predictions.targets
    number = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    bins = []
    for b in np.unique(number):
        inside = number == b
        n, hits = int(inside.sum()), int(right[inside].sum())
        low, high = wilson_interval(hits, n)
        bins.append(Bin(n, float(confidence[inside].mean()), hits / n, low, high))
    return bins


def mistakes_by_pair(
    predictions: Predictions, pairs: list[ConfusedPair], limit: int
) -> list[tuple[ConfusedPair, list[Mistake]]]:
    """For each pair its mistakes, the most confident first, at most `limit` of them."""
    wanted = {(pair.label, pair.answer): (pair, list[Mistake]()) for pair in pairs}
    for mistake in confident_mistakes(predictions, len(predictions.photos)):
        entry = wanted.get((mistake.photo.label, mistake.answer))
        if entry is not None and len(entry[1]) < limit:
            entry[1].append(mistake)
    return list(wanted.values())

"""Figures with their 95 % intervals: every one is a function of the confusion matrix or the logits.

Precision and recall are proportions and get Wilson's interval. F1 is none, but
F1 = 2 J / (1 + J) with the proportion J = TP / (TP + FP + FN), of the images that are of a class or
were taken for it; so Wilson's interval of J becomes one of F1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import softmax

from train.engine.seed import generator
from train.evaluation import Predictions, wilson_interval

__all__ = [
    "ClassScore",
    "Estimate",
    "f1_estimate",
    "macro_f1",
    "overconfidence",
    "proportion",
    "score_classes",
    "top_k",
]

RESAMPLES = 1000
CHUNK = 100  # resamples at a time: bounds the memory
KS = (1, 3, 5, 10)

Confusion = NDArray[np.int64]  # (K, K), rows are true classes


@dataclass(frozen=True)
class Estimate:
    """A fraction in [0, 1] with its 95 % interval from n images; None where n is 0."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class ClassScore:
    """How one class fares.

    Args:
        label: its name.
        n: images of the class.
        answered: images that were taken for it.
        right: images of the class that were taken for it.
        precision: right of answered.
        recall: right of n.
        f1: their harmonic mean.
    """

    label: str
    n: int
    answered: int
    right: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


def proportion(hits: int, n: int) -> Estimate:
    """A share, hits of n, with Wilson's interval."""
    if n == 0:
        return Estimate(None, None, None, 0)
    low, high = wilson_interval(hits, n)
    return Estimate(hits / n, low, high, n)


def f1_estimate(true_positives: int, false_positives: int, false_negatives: int) -> Estimate:
    """F1 of one class with its interval.

    Source: Lam et al. 2023, arXiv:2309.14621, the Wilson indirect method.
    """
    overlap = proportion(true_positives, true_positives + false_positives + false_negatives)
    if overlap.value is None or overlap.low is None or overlap.high is None:
        return overlap
    value, low, high = (2 * j / (1 + j) for j in (overlap.value, overlap.low, overlap.high))
    return Estimate(value, low, high, overlap.n)


def score_classes(confusion: Confusion, labels: Sequence[str]) -> list[ClassScore]:
    """Precision, recall and F1 of each class, in the order of the labels."""
    scores = []
    for k, label in enumerate(labels):
        right, n, answered = (
            int(value) for value in (confusion[k, k], confusion[k].sum(), confusion[:, k].sum())
        )
        scores.append(
            ClassScore(
                label,
                n,
                answered,
                right,
                precision=proportion(right, answered),
                recall=proportion(right, n),
                f1=f1_estimate(right, answered - right, n - right),
            )
        )
    return scores


def macro_f1(confusion: Confusion, *, seed: int = 0) -> Estimate:
    """Mean F1 over the classes that occur or are answered, plus and minus 1.96 standard errors.

    The standard error is the bootstrap's over images: percentiles would be biased where classes
    have few images, because resamples lose some of them.

    Source: Efron 1979; 1 000 resamples, equal for equal seeds.
    """
    rows, columns = np.nonzero(confusion)
    counts = confusion[rows, columns]
    n, classes, cells = int(counts.sum()), len(confusion), np.arange(len(rows))
    ones = np.ones(len(rows))
    shape = (len(rows), classes)
    # sums @ cell counts = images of each class + images taken for it; hits likewise.
    sums = csr_array((ones, (cells, rows)), shape) + csr_array((ones, (cells, columns)), shape)
    hits = csr_array((ones * (rows == columns), (cells, rows)), shape)

    def score(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        total, right = draws @ sums, draws @ hits
        present = total > 0
        f1 = np.divide(2 * right, total, out=np.zeros_like(total, dtype=float), where=present)
        mean: NDArray[np.float64] = f1.sum(axis=1) / present.sum(axis=1)
        return mean

    rng = generator(seed, "macro-f1")
    chunks = [score(rng.multinomial(n, counts / n, CHUNK)) for _ in range(0, RESAMPLES, CHUNK)]
    value, reach = float(score(counts[None])[0]), 1.96 * float(np.concatenate(chunks).std(ddof=1))
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach), n)


def top_k(predictions: Predictions, targets: NDArray[np.int64]) -> list[tuple[int, Estimate]]:
    """How often the truth is among the best k predictions, for 1, 3, 5 and 10 below the classes."""
    logits = predictions.logits
    truth = logits[np.arange(len(targets)), targets][:, None]
    earlier = np.arange(logits.shape[1]) < targets[:, None]  # of equals the first wins, as argmax
    rank = ((logits > truth) | ((logits == truth) & earlier)).sum(axis=1)
    return [(k, proportion(int((rank < k).sum()), len(targets))) for k in KS if k < logits.shape[1]]


def overconfidence(predictions: Predictions, targets: NDArray[np.int64]) -> Estimate:
    """Mean confidence minus share right, with a normal 95 % interval over the images.

    Positive: surer than right. Unlike the other estimates it lies in [-1, 1].
    """
    confidence = softmax(predictions.logits.astype(np.float64), axis=1).max(axis=1)
    gaps = confidence - (predictions.predicted == targets)
    mean, n = float(gaps.mean()), len(gaps)
    reach = 1.96 * float(gaps.std(ddof=1)) / n**0.5 if n > 1 else 1.0
    return Estimate(mean, mean - reach, mean + reach, n)

"""What a candidate's other predictions cost, where the truth is known. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.parity.statistics import holm, mcnemar_p, paired_interval

__all__ = ["AccuracyChange", "ClassChange", "accuracy_change", "calibration_error", "softmax"]

CLASS_IMAGES = 20  # a class with fewer is not judged by itself
ECE_BINS = 15  # as in train/evaluation.py, whose module needs torch


@dataclass(frozen=True)
class ClassChange:
    """One class with CLASS_IMAGES images or more.

    Args:
        label: the class.
        images: that show it.
        lost: right in the reference only.
        gained: right in the candidate only.
        adjusted_p: exact p of lost against gained, Holm-adjusted for the number of classes.
    """

    label: str
    images: int
    lost: int
    gained: int
    adjusted_p: float


@dataclass(frozen=True)
class AccuracyChange:
    """Reference and candidate by the labels; shares in [0, 1].

    Args:
        reference_top1: share right.
        candidate_top1: likewise.
        lost: images that only the reference has right.
        gained: images that only the candidate has right.
        mcnemar_p: exact two-sided p of lost against gained.
        top1_change_low: lower end of the 95 % interval of candidate_top1 - reference_top1.
        top1_change_high: upper end.
        reference_ece: expected calibration error.
        candidate_ece: likewise; None where a logit is not finite.
        confidence_shift: mean confidence of the candidate minus the reference's; None likewise.
        classes: of CLASS_IMAGES images or more, the smallest p first.
    """

    reference_top1: float
    candidate_top1: float
    lost: int
    gained: int
    mcnemar_p: float
    top1_change_low: float
    top1_change_high: float
    reference_ece: float
    candidate_ece: float | None
    confidence_shift: float | None
    classes: tuple[ClassChange, ...]

    @property
    def top1_change(self) -> float:
        """Candidate minus reference."""
        return self.candidate_top1 - self.reference_top1


def accuracy_change(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    targets: NDArray[np.int64],
    labels: tuple[str, ...],
) -> AccuracyChange:
    """Compare two models' answers with the truth.

    Args:
        reference: (N, K) logits, finite.
        candidate: (N, K) logits.
        targets: (N,) class numbers.
        labels: K names.
    """
    before, after = reference.argmax(1) == targets, candidate.argmax(1) == targets
    lost, gained = before & ~after, after & ~before
    low, high = paired_interval(int(lost.sum()), int(gained.sum()), len(targets))
    expected, found = softmax(reference), None
    if np.isfinite(candidate).all():
        found = softmax(candidate)
    return AccuracyChange(
        reference_top1=float(before.mean()),
        candidate_top1=float(after.mean()),
        lost=int(lost.sum()),
        gained=int(gained.sum()),
        mcnemar_p=mcnemar_p(int(lost.sum()), int(gained.sum())),
        top1_change_low=low,
        top1_change_high=high,
        reference_ece=calibration_error(expected, targets),
        candidate_ece=None if found is None else calibration_error(found, targets),
        confidence_shift=(
            None if found is None else float(found.max(1).mean() - expected.max(1).mean())
        ),
        classes=_class_changes(lost, gained, targets, labels),
    )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, K) shares that sum to 1 in each row."""
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def calibration_error(probs: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins of confidence.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    confidence, right = probs.max(1), probs.argmax(1) == targets
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, confidence - right, ECE_BINS)
    return float(np.abs(gaps).sum() / len(targets))


def _class_changes(
    lost: NDArray[np.bool_],
    gained: NDArray[np.bool_],
    targets: NDArray[np.int64],
    labels: tuple[str, ...],
) -> tuple[ClassChange, ...]:
    images, losses, gains = (
        np.bincount(targets[chosen], minlength=len(labels))
        for chosen in (slice(None), lost, gained)
    )
    judged = [int(k) for k in np.flatnonzero(images >= CLASS_IMAGES)]
    adjusted = holm([mcnemar_p(int(losses[k]), int(gains[k])) for k in judged])
    changes = [
        ClassChange(labels[k], int(images[k]), int(losses[k]), int(gains[k]), p)
        for k, p in zip(judged, adjusted, strict=True)
    ]
    return tuple(sorted(changes, key=lambda change: change.adjusted_p))

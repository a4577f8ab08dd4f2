"""All that an evaluation found, as values; metrics.json holds the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stillroom.evaluation.label_issues import LabelIssue, suspect_labels
from stillroom.evaluation.measures import (
    ClassScore,
    Estimate,
    macro_f1,
    overconfidence,
    proportion,
    score_classes,
    top_k,
)
from stillroom.evaluation.source import EvaluationSource
from stillroom.report.mistakes import Bin, ConfusedPair, confused_pairs, reliability_bins
from train.evaluation import Predictions, evaluate

__all__ = ["EvaluationResult", "gather", "metrics_of"]


@dataclass(frozen=True)
class EvaluationResult:
    """What one split says of a model.

    Args:
        split: val or test.
        predictions: of the split.
        confusion: (K, K) counts, rows are true classes.
        wrong: number of wrong predictions.
        top1: share right.
        top: share of images whose truth is among the best k predictions, by k.
        macro: mean F1 of the classes.
        loss: mean cross-entropy in nats.
        ece: expected calibration error.
        overconfidence: mean confidence minus share right.
        bins: of the reliability diagram.
        classes: in the order of the labels.
        pairs: every confusion of two classes, the most frequent first.
        issues: suspected label errors among the held-out images, worst first.
        held_out: number of val and test images.
    """

    split: str
    predictions: Predictions
    confusion: list[list[int]]
    wrong: int
    top1: Estimate
    top: list[tuple[int, Estimate]]
    macro: Estimate
    loss: float
    ece: float
    overconfidence: Estimate
    bins: list[Bin]
    classes: list[ClassScore]
    pairs: list[ConfusedPair]
    issues: list[LabelIssue]
    held_out: int

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.predictions.labels

    @property
    def n(self) -> int:
        """Images of the split."""
        return len(self.predictions.photos)

    def count(self, label: str, answer: str) -> int:
        """How many images of one class were taken for another."""
        return next((p.count for p in self.pairs if (p.label, p.answer) == (label, answer)), 0)


def gather(source: EvaluationSource, split: str) -> EvaluationResult:
    """Compute every figure of one split.

    Raises:
        UsageError: there are no predictions on it.
    """
    predictions = source.of_split(split)
    figures = evaluate(predictions)
    targets, confusion = predictions.targets, np.array(figures["confusion"])
    labels = predictions.labels
    return EvaluationResult(
        split=split,
        predictions=predictions,
        confusion=figures["confusion"],
        wrong=figures["n"] - figures["hits"],
        top1=proportion(figures["hits"], figures["n"]),
        top=top_k(predictions, targets),
        macro=macro_f1(confusion),
        loss=figures["loss"],
        ece=figures["ece"],
        overconfidence=overconfidence(predictions, targets),
        bins=reliability_bins(predictions),
        classes=score_classes(confusion, labels),
        pairs=confused_pairs(figures["confusion"], list(labels), len(labels) ** 2),
        issues=suspect_labels(source.predictions),
        held_out=sum(photo.split in ("val", "test") for photo in source.predictions.photos),
    )


def metrics_of(findings: EvaluationResult, source: EvaluationSource) -> dict[str, Any]:
    """The figures as JSON; fractions in [0, 1], null where a figure has no denominator."""
    confusion: dict[str, dict[str, int]] = {label: {} for label in findings.labels}
    for label, row in zip(findings.labels, findings.confusion, strict=True):
        confusion[label] = {
            answer: count for answer, count in zip(findings.labels, row, strict=True) if count
        }
    return {
        "kind": "evaluation",
        "predictions_sha256": source.digest,
        "split": findings.split,
        "n": findings.n,
        "wrong": findings.wrong,
        "top_k": {str(k): asdict(estimate) for k, estimate in findings.top},
        "macro_f1": asdict(findings.macro),
        "loss": findings.loss,
        "ece": findings.ece,
        "overconfidence": asdict(findings.overconfidence),
        "reliability": [asdict(one) for one in findings.bins],
        "classes": [asdict(score) for score in findings.classes],
        "confusion": confusion,
        "label_issues": [_issue(issue) for issue in findings.issues],
        "held_out": findings.held_out,
    }


def _issue(issue: LabelIssue) -> dict[str, Any]:
    return {
        "path": issue.photo.path,
        "split": issue.photo.split,
        "label": issue.photo.label,
        "suggestion": issue.suggestion,
        "self_confidence": issue.self_confidence,
        "probability": issue.probability,
        "margin": issue.margin,
    }

"""What a model answers and how good that is: predictions.csv first, every figure from it.

scipy.stats and scikit-learn cost as much to import as torch: who computes with them imports them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from train.data.images import LabelledImage
from train.engine.world import current_world

__all__ = [
    "Predictions",
    "agreement",
    "evaluate",
    "predict_logits",
    "read_predictions",
    "validator",
    "wilson_interval",
    "write_predictions",
]

BATCH = 64
ECE_BINS = 15


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on labelled images.

    Args:
        photos: N images with label, split and digest.
        labels: K class names.
        logits: (N, K) float32.
    """

    photos: list[LabelledImage]
    labels: tuple[str, ...]
    logits: NDArray[np.float32]

    @property
    def targets(self) -> NDArray[np.int64]:
        """(N,) true class numbers."""
        return np.array([self.labels.index(photo.label) for photo in self.photos], dtype=np.int64)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) predicted class numbers."""
        best: NDArray[np.int64] = np.argmax(self.logits, axis=1).astype(np.int64)
        return best

    def of_split(self, split: str) -> Predictions:
        """Those of one split."""
        chosen = [i for i, photo in enumerate(self.photos) if photo.split == split]
        return Predictions([self.photos[i] for i in chosen], self.labels, self.logits[chosen])


def predict_logits(
    model: nn.Module, pixels: NDArray[np.uint8], *, batch: int = BATCH
) -> NDArray[np.float32]:
    """Run a model in evaluation mode, fp32, in batches.

    Args:
        model: takes (N, H, W, 3) uint8; the mode of every layer is restored.
        pixels: (N, H, W, 3) uint8.
        batch: images at a time, which memory grows with.

    Returns:
        (N, K) float32 logits.
    """
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        parts = [
            model(torch.from_numpy(pixels[i : i + batch]).to(device)).float().cpu().numpy()
            for i in range(0, len(pixels), batch)
        ]
    for module, training in modes:
        module.training = training
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def validator(
    pixels: NDArray[np.uint8],
    targets: NDArray[np.int64],
    teacher: NDArray[np.float32] | None = None,
) -> Callable[[nn.Module], dict[str, float]]:
    """A function that scores a model on fixed pixels: val_loss (nats) and val_top1 (fraction).

    Each rank answers for its share; rank 0 scores the answers to all N, each once, in their order.

    Args:
        pixels: (n, H, W, 3) uint8, of `train.engine.world.shard_of_rank` of N images.
        targets: (N,) class numbers of all of them.
        teacher: (N, K) logits of a teacher; adds val_agreement and val_kl, as `agreement`.
    """
    truth = torch.from_numpy(targets)

    def validate(model: nn.Module) -> dict[str, float]:
        answers = current_world().gather_rows(predict_logits(model, pixels), len(targets))
        scores: dict[str, float] = {}
        if answers is not None:
            logits = torch.from_numpy(answers)
            scores = {
                "val_loss": float(F.cross_entropy(logits, truth)),
                "val_top1": float((logits.argmax(1) == truth).float().mean()),
            }
            if teacher is not None:
                scores["val_agreement"], scores["val_kl"] = agreement(teacher, answers)
        return current_world().broadcast_object(0, scores)

    return validate


def agreement(teacher: NDArray[np.float32], student: NDArray[np.float32]) -> tuple[float, float]:
    """How far a student answers as its teacher does.

    Args:
        teacher: (N, K) logits.
        student: (N, K) logits on the same images.

    Returns:
        Share of images with the teacher's answer, and mean KL(teacher || student) in nats.
    """
    from scipy.special import log_softmax

    log_t, log_s = (log_softmax(logits.astype(np.float64), axis=1) for logits in (teacher, student))
    same = teacher.argmax(1) == student.argmax(1)
    return float(same.mean()), float((np.exp(log_t) * (log_t - log_s)).sum(1).mean())


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a proportion. Source: Wilson 1927; scipy's implementation."""
    from scipy.stats import binomtest

    interval = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def evaluate(predictions: Predictions) -> dict[str, Any]:
    """Figures of one split, as JSON: all computed from the logits.

    Returns:
        n, top1 with its Wilson interval, top5 (where K > 5), loss, ece, confusion (rows are true
        classes), and precision, recall, f1 and n of each class. Fractions in [0, 1].
    """
    from scipy.special import log_softmax
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    targets, logits = predictions.targets, predictions.logits
    answers = predictions.predicted
    hits = int((answers == targets).sum())
    low, high = wilson_interval(hits, len(targets))
    log_probs = log_softmax(logits.astype(np.float64), axis=1)
    classes = range(len(predictions.labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, answers, labels=list(classes), zero_division=0.0
    )
    result = {
        "n": len(targets),
        "hits": hits,
        "top1": hits / len(targets),
        "top1_low": low,
        "top1_high": high,
        "loss": float(-log_probs[np.arange(len(targets)), targets].mean()),
        "ece": expected_calibration_error(np.exp(log_probs), targets),
        "confusion": confusion_matrix(targets, answers, labels=list(classes)).tolist(),
        "classes": [
            {
                "label": predictions.labels[k],
                "n": int(support[k]),
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
            }
            for k in classes
        ],
    }
    if len(predictions.labels) > 5:
        best = np.argsort(logits, axis=1)[:, -5:]
        result["top5"] = float((best == targets[:, None]).any(1).mean())
    return result


def expected_calibration_error(probs: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins of confidence.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    confidence, right = probs.max(1), probs.argmax(1) == targets
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions.csv: path, sha256, label, split, predicted, then one column a logit."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [f"logit:{label}" for label in predictions.labels]
        writer.writerow(["path", "sha256", "label", "split", "predicted", *names])
        for photo, answer, row in zip(
            predictions.photos, predictions.predicted, predictions.logits, strict=True
        ):
            predicted = predictions.labels[answer]
            # repr of float32 round-trips: what is read back is what was computed.
            values = [np.format_float_scientific(value, trim="-") for value in row]
            writer.writerow(
                [photo.path, photo.sha256, photo.label, photo.split, predicted, *values]
            )


def read_predictions(path: Path) -> Predictions:
    """Read predictions.csv back; the logits are bit for bit those that were written."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = [name for name in reader.fieldnames or () if name.startswith("logit:")]
        rows = list(reader)
    photos = [LabelledImage(row["path"], row["label"], row["split"], row["sha256"]) for row in rows]
    logits = np.array([[row[column] for column in columns] for row in rows], dtype=np.float32)
    labels = tuple(column.removeprefix("logit:") for column in columns)
    return Predictions(photos, labels, logits.reshape(len(photos), len(labels)))

"""Predictions as flat, frozen rows: `pandas.DataFrame(rows)` is a table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from serve.model.predictions import Prediction

__all__ = ["ImagePrediction", "LabelledPrediction", "labelled"]


@dataclass(frozen=True)
class ImagePrediction:
    """What a model says of one image.

    Args:
        image: path, as it was given; empty for an image that has none.
        label: the best one.
        probability: of `label`, in [0, 1].
        labels: the best `top_k`, best first.
        probabilities: of `labels`.
    """

    image: str
    label: str
    probability: float
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def of(cls, image: str, best: Sequence[Prediction]) -> ImagePrediction:
        """From labels with probabilities, best first."""
        labels = tuple(one["label"] for one in best)
        probabilities = tuple(one["probability"] for one in best)
        return cls(image, labels[0], probabilities[0], labels, probabilities)


@dataclass(frozen=True)
class LabelledPrediction(ImagePrediction):
    """A prediction next to the truth.

    Args:
        truth: the image's label.
        correct: whether `label` is `truth`.
        split: train, val or test, of a run's own images; else empty.
    """

    truth: str
    correct: bool
    split: str = ""


def labelled(one: ImagePrediction, truth: str, split: str = "") -> LabelledPrediction:
    """A prediction with the truth added."""
    return LabelledPrediction(**asdict(one), truth=truth, correct=one.label == truth, split=split)

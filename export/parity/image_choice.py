"""Which images a gate looks at, and which an int8 model is calibrated on: never the same."""

from __future__ import annotations

from train.data.dataset import Dataset
from train.data.images import LabelledImage
from train.engine.seed import derive_seed

__all__ = ["MIN_CALIBRATION", "calibration_images", "gate_images"]

MIN_CALIBRATION = 16  # fewer images say little of an activation's range


def gate_images(dataset: Dataset, at_least: int, *, calibration: int = 0) -> list[LabelledImage]:
    """The val split; where it is small, training images besides.

    The test split is never asked: a gate that chooses a file is a choice. Parity compares a model
    with itself, so images that it was trained on serve as well as others. Of the training
    images the gate takes what it lacks, but leaves MIN_CALIBRATION for calibration; of fewer
    than twice as many, half.

    Args:
        dataset: with a train and a val split.
        at_least: wanted; fewer only where both splits together have fewer.
        calibration: number wanted for that; 0 where nothing is calibrated.

    Returns:
        Val in its order, then training images, class by class in turn.
    """
    val, train = dataset.of_split("val"), dataset.of_split("train")
    left = min(calibration, MIN_CALIBRATION, (len(train) + 1) // 2)
    wanted = min(at_least - len(val), len(train) - left)
    return val + _in_turn(train, "gate")[: max(0, wanted)]


def calibration_images(
    dataset: Dataset, count: int, gate: list[LabelledImage]
) -> list[LabelledImage]:
    """Training images for calibration, class by class in turn; none that the gate looks at.

    Args:
        dataset: with a train split.
        count: wanted; fewer where there are no more.
        gate: of `gate_images`.
    """
    seen = {photo.sha256 for photo in gate}
    others = [photo for photo in dataset.of_split("train") if photo.sha256 not in seen]
    return _in_turn(others, "calibration")[:count]


def _in_turn(photos: list[LabelledImage], purpose: str) -> list[LabelledImage]:
    """One of each class in turn; each class in the order of a hash of the images' bytes."""
    by_class: dict[str, list[LabelledImage]] = {}
    for photo in sorted(photos, key=lambda photo: derive_seed(purpose, photo.sha256)):
        by_class.setdefault(photo.label, []).append(photo)
    ranked = [(rank, label) for label in by_class for rank in range(len(by_class[label]))]
    return [by_class[label][rank] for rank, label in sorted(ranked)]

"""Smaller versions of a dataset: stratified, seeded, each within the next larger one."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

from train.data.dataset import Dataset
from train.data.images import LabelledImage
from train.engine.seed import derive_seed

__all__ = ["subset"]


def subset(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """A share of the training images of each class; the other splits stay as they are.

    The images of a class are taken in the order of a hash of (seed, file content), so that of
    two fractions with one seed the smaller subset is within the larger.

    Args:
        dataset: to take from.
        fraction: in (0, 1]; at least one image of each class is taken.
        seed: of the order.
    """
    classes: dict[str, list[LabelledImage]] = defaultdict(list)
    for photo in dataset.of_split("train"):
        classes[photo.label].append(photo)
    kept = set()
    for photos in classes.values():
        ranked = sorted(photos, key=lambda p: (derive_seed(seed, "subset", p.sha256), p.path))
        kept |= {photo.path for photo in ranked[: math.ceil(fraction * len(ranked))]}
    photos = [p for p in dataset.photos if p.split != "train" or p.path in kept]
    return replace(dataset, photos=photos)

"""The images of a run, as every stage opens them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.data.images import LabelledImage, labels_of, read_index

__all__ = ["Dataset"]


@dataclass(frozen=True)
class Dataset:
    """The images of a run.

    Args:
        root: the folder that the paths are relative to.
        photos: with labels and splits.
        cache_mib: of the disk, for decoded training images.
    """

    root: Path
    photos: list[LabelledImage]
    cache_mib: int = 2048

    @classmethod
    def open(cls, root: Path, index: Path, cache_mib: int) -> Dataset:
        """Read index.csv as the audit wrote it."""
        return cls(root, read_index(index), cache_mib)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return labels_of(self.photos)

    def of_split(self, split: str) -> list[LabelledImage]:
        """The images of one split."""
        return [photo for photo in self.photos if photo.split == split]

    def targets(self, split: str) -> NDArray[np.int64]:
        """(N,) class numbers of one split."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        labels = [numbers[photo.label] for photo in self.of_split(split)]
        return np.array(labels, dtype=np.int64)

"""What the report shows of the dataset: counts per class and split, sizes, findings, photos."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from stillroom.page.thumbnails import Thumbnails, spread
from stillroom.report.facts import Facts
from train.data.images import LabelledImage

__all__ = ["ClassRow", "data_section"]

SPLITS = ("train", "val", "test")
MAX_THUMBNAILS = 160  # on the contact strips of all classes together
MAX_PER_CLASS = 8


@dataclass(frozen=True)
class ClassRow:
    """One class.

    Args:
        label: its name.
        counts: images by split.
        shares: each as a percentage of the largest class, for the bar.
        strip: (path, data: URI or None) of a few images.
    """

    label: str
    counts: dict[str, int]
    shares: dict[str, float]
    strip: list[tuple[str, str | None]]

    @property
    def total(self) -> int:
        """Images of the class."""
        return sum(self.counts.values())


def data_section(facts: Facts, thumbnails: Thumbnails) -> dict[str, Any]:
    """Rows of the classes, and the audit."""
    by_label: dict[str, list[LabelledImage]] = defaultdict(list)
    for photo in facts.photos:
        by_label[photo.label].append(photo)
    labels = facts.audit["labels"]
    counts = {
        label: {split: facts.audit["splits"][split][label] for split in SPLITS} for label in labels
    }
    largest = max(sum(one.values()) for one in counts.values())
    per_class = max(1, min(MAX_PER_CLASS, MAX_THUMBNAILS // len(labels)))
    rows = [
        ClassRow(
            label=label,
            counts=counts[label],
            shares={split: 100 * counts[label][split] / largest for split in SPLITS},
            strip=[
                (photo.path, thumbnails.of(photo))
                for photo in spread(by_label[label], per_class if number < MAX_THUMBNAILS else 0)
            ],
        )
        for number, label in enumerate(labels)
    ]
    totals = {split: sum(counts[label][split] for label in labels) for split in SPLITS}
    return {"rows": rows, "totals": totals, "audit": facts.audit}

"""Labelled images, and index.csv: the list of them that every stage opens."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from serve.contract.digest import digest_of_json

__all__ = ["LabelledImage", "dataset_digest", "labels_of", "read_index", "write_index"]


@dataclass(frozen=True)
class LabelledImage:
    """One labelled image file.

    Args:
        path: relative to the dataset's folder, with forward slashes; of a list it may leave it.
        label: the class: its folder's name, or as the list says.
        split: train, val or test; empty until split.
        sha256: of the file's bytes; empty until read.
        width: upright width in pixels; 0 until read.
        height: upright height in pixels; 0 until read.
    """

    path: str
    label: str
    split: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0


def labels_of(photos: Iterable[LabelledImage]) -> tuple[str, ...]:
    """The class names in the order of the logits: sorted."""
    return tuple(sorted({photo.label for photo in photos}))


def dataset_digest(photos: Iterable[LabelledImage]) -> str:
    """Hex sha256 over every (path, sha256): names the dataset, wherever it lies."""
    return digest_of_json(sorted([photo.path, photo.sha256] for photo in photos))


def write_index(path: Path, photos: Iterable[LabelledImage]) -> None:
    """Write index.csv: one row an image."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, [field.name for field in fields(LabelledImage)], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(asdict(photo) for photo in photos)


def read_index(path: Path, split: str | None = None) -> list[LabelledImage]:
    """Read index.csv, all of it or one split."""
    with path.open(newline="", encoding="utf-8") as file:
        photos = [
            LabelledImage(
                path=row["path"],
                label=row["label"],
                split=row["split"],
                sha256=row["sha256"],
                width=int(row["width"]),
                height=int(row["height"]),
            )
            for row in csv.DictReader(file)
        ]
    return [photo for photo in photos if split in (None, photo.split)]

"""Images without labels: which files there are, and which of them may be trained on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serve.contract.digest import digest_of_json
from serve.contract.errors import DatasetError
from serve.contract.preprocess import DecodeLimits
from train.data.audit.cache import FileFacts
from train.data.audit.close_look import close_looks
from train.data.audit.file_facts import read_facts
from train.data.audit.near_duplicates import SIDE_PX, Thumbnails, near_matches
from train.data.dataset import Dataset
from train.data.folder import list_unlabelled, say_notices
from train.data.images import LabelledImage
from train.data.own_images import limits_of
from train.options import DataOptions

__all__ = ["Unlabelled", "open_unlabelled"]

SHOWN = 3  # file names in a message
LIST = "unlabelled.csv"


@dataclass(frozen=True)
class Unlabelled:
    """Images without labels.

    Args:
        root: their folder.
        photos: those that are trained on, with paths relative to it.
        left_out: path, sha256 and why, of the others.
    """

    root: Path
    photos: tuple[LabelledImage, ...]
    left_out: tuple[tuple[str, str, str], ...]

    @property
    def absolute(self) -> tuple[LabelledImage, ...]:
        """The images with absolute paths, as they lie beside another dataset's."""
        root = self.root.resolve()
        return tuple(replace(photo, path=str(root / photo.path)) for photo in self.photos)

    @property
    def digest(self) -> str:
        """Of the paths and bytes of those that are trained on."""
        return digest_of_json([[photo.path, photo.sha256] for photo in self.photos])

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "photos": len(self.photos),
            "left_out": len(self.left_out),
            "digest": self.digest,
        }

    def sentence(self) -> str:
        """What was found, for people."""
        text = f"{len(self.photos)} images without labels join the training"
        if not self.left_out:
            return f"{text}."
        path, _, why = self.left_out[0]
        return f"{text}; {len(self.left_out)} are left out, first {path}: {why}."

    def write(self, folder: Path) -> None:
        """Write unlabelled.csv: path, sha256, and why a file is left out."""
        rows = [(photo.path, photo.sha256, "") for photo in self.photos]
        with (folder / LIST).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("path", "sha256", "left_out"))
            writer.writerows(sorted([*rows, *self.left_out]))


def open_unlabelled(root: Path, dataset: Dataset, options: DataOptions | None = None) -> Unlabelled:
    """Read a folder of images whose labels nobody knows.

    What equals or nearly equals a test or val image is left out: a student that saw it in
    training would be judged on what it was taught.

    Args:
        root: searched with all its folders; their names mean nothing.
        dataset: of the labelled images.
        options: what becomes of files that do not decode, and their limits, as in
            `train.data.audit.dataset_audit`.

    Raises:
        DatasetError: no such folder, nothing in it, or files that do not decode.
    """
    listing = list_unlabelled(root)
    say_notices(str(root), listing.notices)
    found = listing.photos
    options = options or DataOptions()
    limits = limits_of(options)
    facts = read_facts(root, found, limits)
    bad = [(p.path, f.sha256, f.problem) for p, f in zip(found, facts, strict=True) if f.problem]
    if bad and options.unreadable == "error":
        names = "; ".join(f"{path}: {why.rstrip('.')}" for path, _, why in bad[:SHOWN])
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise DatasetError(
            f"{len(bad)} of {len(found)} images in {root} do not decode: {names}{more}.",
            "Repair or remove them, or leave them out with data.unreadable=skip.",
        )
    readable = [(p, f) for p, f in zip(found, facts, strict=True) if not f.problem]
    judged = dataset.of_split("test") + dataset.of_split("val")
    leaks = _leaks(root, readable, dataset.root, judged, limits)
    kept, left_out = [], bad
    for (photo, one), leak in zip(readable, leaks, strict=True):
        if leak is None:
            kept.append(replace(photo, sha256=one.sha256, width=one.width, height=one.height))
        else:
            left_out.append((photo.path, one.sha256, f"is {leak.path} of {leak.split}"))
    if not kept:
        raise DatasetError(
            f"None of the {len(found)} images in {root} may be trained on: "
            f"{left_out[0][0]} {left_out[0][2]}.",
            "Name a folder of other images.",
        )
    return Unlabelled(root, tuple(kept), tuple(left_out))


def _leaks(
    root: Path,
    read: Sequence[tuple[LabelledImage, FileFacts]],
    judged_root: Path,
    judged: list[LabelledImage],
    limits: DecodeLimits,
) -> list[LabelledImage | None]:
    """Of each file the test or val image that it is or looks like."""
    facts = [one for _, one in read]
    same = {photo.sha256: photo for photo in reversed(judged)}
    judged_facts = read_facts(judged_root, judged, limits)
    decoded = [i for i, one in enumerate(judged_facts) if not one.problem]
    both = [
        *(replace(photo, path=str(root.resolve() / photo.path)) for photo, _ in read),
        *(replace(judged[i], path=str(judged_root.resolve() / judged[i].path)) for i in decoded),
    ]
    matches = near_matches(
        _thumbnails(facts),
        _thumbnails([judged_facts[i] for i in decoded]),
        close_looks(Path(), both),
    )
    near = [judged[decoded[m]] if m >= 0 else None for m in matches]
    return [same.get(one.sha256) or match for one, match in zip(facts, near, strict=True)]


def _thumbnails(facts: Sequence[FileFacts]) -> Thumbnails:
    data = b"".join(one.thumbnail for one in facts)
    return np.frombuffer(data, np.uint8).reshape(-1, SIDE_PX, SIDE_PX, 3)

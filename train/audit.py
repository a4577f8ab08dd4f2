"""What is in the folder, and what is wrong with it. Every file is read and decoded once."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from serve.contract.digest import canonical_json, sha256_of_bytes
from serve.contract.errors import DatasetError, ImageError
from serve.contract.preprocess import decode
from train.options import DataOptions
from train.photos import Photo, dataset_digest, find_photos, labels_of, write_index
from train.progress import track
from train.split import split_photos

__all__ = ["IMBALANCE_LIMIT", "audit_photos", "read_photos"]

IMBALANCE_LIMIT = 5.0  # largest class over smallest
SHOWN = 5  # file names in a message

Problem = tuple[str, str]  # path, why


def audit_photos(root: Path, options: DataOptions, *, seed: int, out: Path) -> dict[str, Any]:
    """Audit and split a folder of photographs; write index.csv and audit.json into `out`.

    Returns:
        The audit, as in audit.json.

    Raises:
        DatasetError: the folder cannot be used; or images do not decode and the policy is "error".
    """
    found = find_photos(root)
    readable, unreadable = read_photos(root, found)
    if unreadable and options.unreadable == "error":
        names = "; ".join(f"{path}: {why}" for path, why in unreadable[:SHOWN])
        more = f" and {len(unreadable) - SHOWN} more" if len(unreadable) > SHOWN else ""
        raise DatasetError(
            f"{len(unreadable)} of {len(readable) + len(unreadable)} images do not decode: "
            f"{names}{more}.",
            "Repair or remove them, or leave them out with data.unreadable=skip.",
        )
    if lost := sorted(set(labels_of(found)) - set(labels_of(readable))):
        raise DatasetError(
            f"No image of {', '.join(lost)} in {root} decodes.",
            "Repair the files, or remove the class folders.",
        )
    photos = split_photos(
        readable,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        seed=seed,
    )
    audit = describe(photos, unreadable)
    write_index(out / "index.csv", photos)
    (out / "audit.json").write_bytes(canonical_json(audit))
    return audit


def read_photos(root: Path, photos: list[Photo]) -> tuple[list[Photo], list[Problem]]:
    """Read and decode every file: fills in digest and upright size.

    Returns:
        The photographs that decode, and (path, reason) of those that do not; both in order.
    """

    def read(photo: Photo) -> Photo | Problem:
        try:
            data = (root / photo.path).read_bytes()
            width, height = decode(data).size
        except ImageError as error:
            return photo.path, error.message
        except OSError as error:
            return photo.path, error.strerror or type(error).__name__
        return replace(photo, sha256=sha256_of_bytes(data), width=width, height=height)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(track(pool.map(read, photos), "audit", len(photos), "images"))
    good = [result for result in results if isinstance(result, Photo)]
    bad = [result for result in results if not isinstance(result, Photo)]
    return good, bad


def describe(photos: list[Photo], unreadable: list[Problem]) -> dict[str, Any]:
    """Counts, sizes, duplicates and findings of split photographs, as JSON."""
    labels = labels_of(photos)
    counts = Counter((photo.label, photo.split) for photo in photos)
    totals = {
        label: sum(counts[label, split] for split in ("train", "val", "test")) for label in labels
    }
    groups = _groups_of_equal_files(photos)
    return {
        "dataset_digest": dataset_digest(photos),
        "labels": list(labels),
        "photos": len(photos),
        "splits": {
            split: {label: counts[label, split] for label in labels}
            for split in ("train", "val", "test")
        },
        "imbalance": round(max(totals.values()) / min(totals.values()), 3),
        "sizes_px": _sizes(photos),
        "unreadable": [{"path": path, "why": why} for path, why in unreadable],
        "duplicates": [[photo.path for photo in group] for group in groups],
        "findings": _findings(totals, groups, unreadable),
    }


def _groups_of_equal_files(photos: Iterable[Photo]) -> list[list[Photo]]:
    by_content: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        by_content[photo.sha256].append(photo)
    return [group for group in by_content.values() if len(group) > 1]


def _sizes(photos: list[Photo]) -> dict[str, list[int]]:
    sides = np.array([sorted((photo.width, photo.height)) for photo in photos])
    quantiles = np.percentile(sides, [0, 5, 50, 95, 100], axis=0, method="nearest").astype(int)
    return {
        "quantiles": [0, 5, 50, 95, 100],
        "shorter_side": quantiles[:, 0].tolist(),
        "longer_side": quantiles[:, 1].tolist(),
    }


def _findings(
    totals: dict[str, int], groups: list[list[Photo]], unreadable: list[Problem]
) -> list[str]:
    """Sentences a person should read before training."""
    found = []
    smallest, largest = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    if totals[largest] > IMBALANCE_LIMIT * totals[smallest]:
        found.append(
            f"Imbalanced: {totals[largest]} images of {largest}, {totals[smallest]} of {smallest}."
        )
    if unreadable:
        found.append(f"{len(unreadable)} images do not decode and were left out.")
    if groups:
        found.append(f"{len(groups)} images are stored more than once.")
    for group in groups:
        labels = sorted({photo.label for photo in group})
        splits = sorted({photo.split for photo in group})
        if len(labels) > 1:
            found.append(f"{group[0].path} is filed under {' and '.join(labels)}.")
        if len(splits) > 1:
            found.append(f"{group[0].path} leaks: it is in {' and '.join(splits)}.")
    return found

"""Train, val and test: stratified, seeded, equal and nearly equal files on one side."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from serve.contract.errors import DatasetError
from train.data.class_shares import check_classes
from train.data.images import LabelledImage
from train.engine.seed import derive_seed

__all__ = ["SPLITS", "split_images", "write_lists"]

SPLITS = ("train", "val", "test")


def split_images(
    photos: list[LabelledImage],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    groups: Mapping[str, str] | None = None,
) -> list[LabelledImage]:
    """Give every image a split; folders that were named train, val or test stay as they are.

    Each class is divided by the order of a hash of (seed, group), so adding an image moves few
    others, and files of one group always fall on the same side. Equal files are one group.

    Args:
        photos: with `sha256` set.
        val_fraction: of each class, in (0, 1); ignored where a val split exists.
        test_fraction: of each class, in (0, 1); ignored where a test split exists.
        seed: of the split.
        groups: sha256 -> sha256 that stands for all nearly equal files; others stand for
            themselves.

    Returns:
        The images in their order, each with a split.

    Raises:
        DatasetError: fractions out of range, or a class too small to appear in every split.
    """
    given = {photo.split for photo in photos} - {""}
    wanted = {"test": test_fraction, "val": val_fraction}
    shares = {name: share for name, share in wanted.items() if name not in given}
    if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise DatasetError(
            f"val_fraction = {val_fraction} and test_fraction = {test_fraction} do not divide the "
            "images into train, val and test.",
            "Choose fractions above 0 that sum to less than 1.",
        )
    group_of = groups or {}
    assigned = _assign(photos, shares, seed, group_of)
    result = [
        photo
        if photo.split in ("val", "test")
        else replace(photo, split=assigned.get(group_of.get(photo.sha256, photo.sha256), "train"))
        for photo in photos
    ]
    check_classes(result, shares, group_of)
    return result


def write_lists(folder: Path, photos: Iterable[LabelledImage]) -> None:
    """Write train.csv, val.csv and test.csv: `path,label`, one row an image."""
    rows: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    for photo in photos:
        rows[photo.split].append((photo.path, photo.label))
    for split in SPLITS:
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("path", "label"))
            writer.writerows(rows[split])


def _assign(
    photos: Iterable[LabelledImage],
    shares: dict[str, float],
    seed: int,
    group_of: Mapping[str, str],
) -> dict[str, str]:
    """The split of each group that leaves `train`."""
    contents: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for photo in photos:
        if photo.split in ("", "train"):
            group = group_of.get(photo.sha256, photo.sha256)
            contents[photo.label][group].add(photo.sha256)
    assigned: dict[str, str] = {}
    for label in sorted(contents):
        sizes = {group: len(members) for group, members in contents[label].items()}
        total = sum(sizes.values())
        for split, share in shares.items():
            free = {group: size for group, size in sizes.items() if group not in assigned}
            chosen = _fill(free, max(1, round(total * share)), seed)
            assigned.update(dict.fromkeys(chosen, split))
    return assigned


def _fill(sizes: dict[str, int], wanted: int, seed: int) -> list[str]:
    """Groups of so many files together, in a seeded order; one too large for the rest stays out."""
    order = sorted(sizes, key=lambda group: derive_seed(seed, "split", group))
    chosen = []
    for group in order:
        if sizes[group] <= wanted:
            chosen.append(group)
            wanted -= sizes[group]
    if not chosen and len(order) > 1:  # a split too small is better than none
        chosen.append(min(order, key=sizes.__getitem__))
    return chosen

"""Whether every class is in every split, and what helps where one is not."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

from serve.contract.errors import DatasetError
from train.data.images import LabelledImage

__all__ = ["check_classes"]

SPLITS = ("train", "val", "test")


def check_classes(
    photos: Sequence[LabelledImage], shares: Mapping[str, float], group_of: Mapping[str, str]
) -> None:
    """Refuse images whose split leaves a class out of train, val or test.

    Args:
        photos: with their splits.
        shares: of the splits that were made here, in (0, 1); the others are as the user gave them.
        group_of: sha256 -> sha256 that stands for its near-duplicates.

    Raises:
        DatasetError: names the class, what it lacks, why, and how many images help.
    """
    present = {(photo.label, photo.split) for photo in photos}
    labels = sorted({photo.label for photo in photos})
    lacks = {
        label: missing
        for label in labels
        if (missing := [split for split in SPLITS if (label, split) not in present])
    }
    for label, missing in lacks.items():
        if given := [
            split for split in missing if split in ("val", "test") and split not in shares
        ]:
            raise _absent(photos, label, given)
        raise _too_small(photos, label, missing, shares, group_of)


def _absent(photos: Sequence[LabelledImage], label: str, given: list[str]) -> DatasetError:
    """The user's own val or test lacks a class."""
    count = sum(photo.label == label for photo in photos)
    folders = [folder for split in given if (folder := _folder_of(photos, split))]
    where = f"{' and '.join(given)} hold no image of it"
    if len(folders) == len(given):
        verb = "has" if len(folders) == 1 else "have"
        where = f"{' and '.join(f'{one}/' for one in folders)} {verb} no folder {label!r}"
    there = " and ".join(given)
    step = f"Move some of them to {there}, at least one each"
    if count <= len(given):  # or none is left
        step = f"Add images of it to {there}"
    return DatasetError(
        f"The class {label!r} has {count} images in train alone: {where}.",
        f"{step}, or remove the class.",
    )


def _folder_of(photos: Sequence[LabelledImage], split: str) -> str:
    """The folder that is this split, where class folders lie in split folders; empty else."""
    parts = [(p.path.split("/"), p.label) for p in photos if p.split == split]
    tops = {path[0] for path, label in parts if len(path) > 2 and path[1] == label}
    whole = all(len(path) > 2 and path[1] == label for path, label in parts)
    return tops.pop() if whole and len(tops) == 1 else ""


def _too_small(
    photos: Sequence[LabelledImage],
    label: str,
    missing: list[str],
    shares: Mapping[str, float],
    group_of: Mapping[str, str],
) -> DatasetError:
    """Too few pictures to divide, or too many that other classes have, too."""
    free = [photo for photo in photos if photo.split == "train" or photo.split in shares]
    groups, files = (_only_of(label, free, groups) for groups in (group_of, {}))
    count = len({photo.sha256 for photo in free if photo.label == label})
    others = sorted(
        {photo.label for photo in free if photo.sha256 in _shared(label, free, group_of)} - {label}
    )
    why = "too few to divide"
    if others:
        why = (
            f"{groups} of them no copies of images of {', '.join(others)}; copies stay in the "
            "split of their original"
        )
    elif groups < count:
        why = f"and {groups} where near-duplicates count as one, which stay in one split"
    more = next(k for k in itertools.count(1) if groups + k >= _needed(count + k, shares))
    apart = ""
    if groups < files >= _needed(count, shares):
        apart = ", or let near-duplicates be divided: data.near_duplicates=apart"
    return DatasetError(
        f"The class {label!r} has {count} different image{'s' * (count != 1)}, {why}: none is left "
        f"for {' and '.join(missing)}.",
        f"Add {more} or more that are no copies (50 would be better), or remove the class{apart}"
        + ("" if apart else "."),
    )


def _needed(count: int, shares: Mapping[str, float]) -> int:
    """How many groups a class needs so that one is left for train."""
    return 1 + sum(max(1, round(count * share)) for share in shares.values())


def _shared(label: str, photos: Sequence[LabelledImage], group_of: Mapping[str, str]) -> set[str]:
    """sha256 of all images in groups that hold this class and another."""
    labels: dict[str, set[str]] = defaultdict(set)
    for photo in photos:
        labels[group_of.get(photo.sha256, photo.sha256)].add(photo.label)
    mixed = {group for group, found in labels.items() if label in found and len(found) > 1}
    return {p.sha256 for p in photos if group_of.get(p.sha256, p.sha256) in mixed}


def _only_of(label: str, photos: Sequence[LabelledImage], group_of: Mapping[str, str]) -> int:
    """How many groups hold this class alone."""
    shared = _shared(label, photos, group_of)
    mine = {p.sha256 for p in photos if p.label == label} - shared
    return len({group_of.get(sha, sha) for sha in mine})

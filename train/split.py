"""Train, val and test: stratified, seeded, equal files on one side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from serve.contract.errors import DatasetError
from train.photos import Photo
from train.seed import derive_seed

__all__ = ["split_photos"]


def split_photos(
    photos: list[Photo], *, val_fraction: float, test_fraction: float, seed: int
) -> list[Photo]:
    """Give every photograph a split; folders that were named train, val or test stay as they are.

    Each class is divided by the order of a hash of (seed, file content), so adding a photograph
    moves few others, and equal files always fall on the same side.

    Args:
        photos: with `sha256` set.
        val_fraction: of each class, in (0, 1); ignored where a val split exists.
        test_fraction: of each class, in (0, 1); ignored where a test split exists.
        seed: of the split.

    Returns:
        The photographs in their order, each with a split.

    Raises:
        DatasetError: fractions out of range, or a class too small to appear in every split.
    """
    given = {photo.split for photo in photos} - {""}
    wanted = {"test": test_fraction, "val": val_fraction}
    shares = {name: share for name, share in wanted.items() if name not in given}
    if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise DatasetError(
            f"val_fraction = {val_fraction} and test_fraction = {test_fraction} do not divide the "
            "photographs into train, val and test.",
            "Choose fractions above 0 that sum to less than 1.",
        )
    assigned = _assign(photos, shares, seed)
    result = [
        photo
        if photo.split in ("val", "test")
        else replace(photo, split=assigned.get(photo.sha256, "train"))
        for photo in photos
    ]
    _check_every_class_everywhere(result)
    return result


def _assign(photos: Iterable[Photo], shares: dict[str, float], seed: int) -> dict[str, str]:
    """The split of each file content that leaves `train`."""
    contents: dict[str, dict[str, None]] = defaultdict(dict)  # label -> its distinct contents
    for photo in photos:
        if photo.split in ("", "train"):
            contents[photo.label].setdefault(photo.sha256)
    assigned: dict[str, str] = {}
    for label in sorted(contents):
        free = sorted(
            (sha for sha in contents[label] if sha not in assigned),
            key=lambda sha: derive_seed(seed, "split", sha),
        )
        total = len(contents[label])
        for split, share in shares.items():
            count = max(1, round(total * share))
            assigned.update(dict.fromkeys(free[:count], split))
            free = free[count:]
    return assigned


def _check_every_class_everywhere(photos: list[Photo]) -> None:
    present = {(photo.label, photo.split) for photo in photos}
    for label in sorted({photo.label for photo in photos}):
        missing = [split for split in ("train", "val", "test") if (label, split) not in present]
        if missing:
            count = len({photo.sha256 for photo in photos if photo.label == label})
            raise DatasetError(
                f"The class {label!r} has {count} distinct images: none of them is in "
                f"{' and '.join(missing)}.",
                "Add images of it (at least 3, better 50), or remove the class.",
            )

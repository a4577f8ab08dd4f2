"""Photographs on disk: which files there are, in which class and split, and the index of them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from serve.contract.digest import digest_of_json, sha256_of_file
from serve.contract.errors import DatasetError
from serve.contract.labels import refuse_twins
from train.file_names import misnamed_of, refuse_misnamed

__all__ = [
    "SPLIT_FOLDERS",
    "SUFFIXES",
    "Photo",
    "dataset_digest",
    "find_photos",
    "find_unlabelled",
    "fingerprint",
    "labels_of",
    "read_index",
    "write_index",
]

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp"})
SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True)
class Photo:
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


def find_photos(root: Path) -> list[Photo]:
    """List the images of a class-per-folder tree, with or without train/val/test folders.

    Returns:
        Photos sorted by path; `split` is set where the folders say it.

    Raises:
        DatasetError: no such folder, no classes, one class, an empty class, or no train folder.
    """
    if not root.is_dir():
        raise DatasetError(
            f"No such folder or list: {root}.",
            "Name a folder that holds one folder of images per class, or a list of images.",
        )
    folders = _subfolders(root)
    splits = [SPLIT_FOLDERS.get(folder.name.lower(), "") for folder in folders]
    if splits and all(splits):
        if "train" not in splits:
            raise DatasetError(
                f"{root} has the folders {', '.join(f.name for f in folders)} but no train folder.",
                "Add train/, or put the class folders directly into it.",
            )
        photos = [
            photo
            for folder, split in zip(folders, splits, strict=True)
            for photo in _photos_of_classes(root, folder, split)
        ]
    elif len(set(splits) - {""}) > 1:
        other = [f.name for f, split in zip(folders, splits, strict=True) if not split]
        raise DatasetError(
            f"{root} has split folders, and beside them {', '.join(other)}: not both can be "
            "classes.",
            "Move the others out, or rename the classes that are called like a split.",
        )
    else:
        photos = _photos_of_classes(root, root, "")
    _check_classes(root, photos)
    return sorted(photos, key=lambda photo: photo.path)


def find_unlabelled(root: Path) -> list[Photo]:
    """List the images below a folder, sorted by path; hidden files and folders are passed over.

    Returns:
        Photos of the train split with empty labels; the names of folders mean nothing.

    Raises:
        DatasetError: no such folder, or no image in it.
    """
    if not root.is_dir():
        raise DatasetError(
            f"No such folder: {root}.", "Name a folder of photographs; labels are not needed."
        )
    photos = [
        Photo(path.relative_to(root).as_posix(), "", "train")
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part[0] == "." for part in path.relative_to(root).parts)
    ]
    if not photos:
        raise DatasetError(
            f"{root} holds no images ({', '.join(sorted(SUFFIXES))}).",
            "Name a folder of photographs; labels are not needed.",
        )
    refuse_misnamed(root, misnamed_of(photo.path for photo in photos))
    return sorted(photos, key=lambda photo: photo.path)


def labels_of(photos: Iterable[Photo]) -> tuple[str, ...]:
    """The class names in the order of the logits: sorted."""
    return tuple(sorted({photo.label for photo in photos}))


def dataset_digest(photos: Iterable[Photo]) -> str:
    """Hex sha256 over every (path, sha256): names the dataset, wherever it lies."""
    return digest_of_json(sorted([photo.path, photo.sha256] for photo in photos))


def fingerprint(root: Path, photos: list[Photo]) -> str:
    """Hex sha256 over path, label, split and bytes of every file; those without digest are read."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda photo: photo.sha256 or sha256_of_file(root / photo.path), photos)
        return digest_of_json(
            [[p.path, p.label, p.split, d] for p, d in zip(photos, digests, strict=True)]
        )


def write_index(path: Path, photos: Iterable[Photo]) -> None:
    """Write index.csv: one row a photograph."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Photo)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(photo) for photo in photos)


def read_index(path: Path, split: str | None = None) -> list[Photo]:
    """Read index.csv, all of it or one split."""
    with path.open(newline="", encoding="utf-8") as file:
        photos = [
            Photo(
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


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _photos_of_classes(root: Path, folder: Path, split: str) -> list[Photo]:
    photos = []
    for class_folder in _subfolders(folder):
        paths = [
            path
            for path in sorted(class_folder.rglob("*"))
            if path.suffix.lower() in SUFFIXES
            and path.is_file()
            and not any(part[0] == "." for part in path.relative_to(class_folder).parts)
        ]
        if not paths:
            raise DatasetError(
                f"The class folder {class_folder} holds no images ({', '.join(sorted(SUFFIXES))}).",
                "Add images, or remove the folder.",
            )
        photos += [
            Photo(path.relative_to(root).as_posix(), class_folder.name, split) for path in paths
        ]
    return photos


def _check_classes(root: Path, photos: list[Photo]) -> None:
    labels = labels_of(photos)
    if not labels:
        loose = sum(path.suffix.lower() in SUFFIXES for path in root.iterdir() if path.is_file())
        detail = f", only {loose} loose images" if loose else ""
        raise DatasetError(
            f"{root} holds no class folders{detail}.",
            "Put the images of each class into a folder named after it.",
        )
    if len(labels) == 1:
        raise DatasetError(
            f"{root} holds one class only ({labels[0]!r}); a classifier needs two or more.",
            "Add a folder for each other class.",
        )
    trained = {photo.label for photo in photos if photo.split in ("", "train")}
    if unknown := sorted(set(labels) - trained):
        refuse_twins(root, unknown, trained)
        raise DatasetError(
            f"{root}: {', '.join(unknown)} occur in val or test but not in train.",
            "Add training images for them, or remove them.",
        )

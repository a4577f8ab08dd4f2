"""Images of a folder: which files there are, in which class and split, and what was passed over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from serve.contract.digest import digest_of_json, sha256_of_file
from serve.contract.errors import DatasetError
from serve.contract.labels import refuse_twins
from train.data.folders.file_names import misnamed_of, refuse_misnamed
from train.data.folders.layout import find_layout
from train.data.folders.notices import Notice, printable, sentences, severity_of
from train.data.folders.scan import SUFFIXES, scan_folder
from train.data.images import LabelledImage, labels_of
from train.engine.progress import say
from train.options import DataOptions

__all__ = [
    "Listing",
    "find_images",
    "find_unlabelled",
    "fingerprint",
    "list_images",
    "list_unlabelled",
    "say_notices",
]

DEFAULT = DataOptions()


@dataclass(frozen=True)
class Listing:
    """The images of a folder, and what else is to be said of it.

    Args:
        photos: sorted by path.
        notices: what was passed over, and why.
        remarks: how splits and classes were told.
        places: path -> file and line that name it; empty where no list does.
    """

    photos: list[LabelledImage]
    notices: tuple[Notice, ...] = ()
    remarks: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)


def list_images(root: Path, options: DataOptions = DEFAULT) -> Listing:
    """List the images of a class-per-folder tree, with or without split folders.

    Args:
        root: the folder.
        options: `splits` and `class_level`, where the names of folders do not say it.

    Returns:
        Photos with label; `split` is set where the folders say it.

    Raises:
        DatasetError: no such folder, no classes, one class, an empty class, no train folder, or
            folders of which it cannot be told whether they are classes.
    """
    if not root.is_dir():
        raise DatasetError(
            f"No such folder or list: {root}.",
            "Name a folder that holds one folder of images per class, or a list of images.",
        )
    scan = scan_folder(root)
    unread = [notice.path for notice in scan.notices if notice.reason == "format"]
    layout = find_layout(str(root), [*scan.images, *unread], options)
    read = [(path, *layout.read(path)) for path in scan.images]
    photos = [LabelledImage(path, label, split) for path, label, split in read if label]
    notices = [replace(notice, label=layout.read(notice.path)[0]) for notice in scan.notices]
    notices += [Notice(path, "outside") for path, label, _ in read if not label]
    classes = {folder for folder in scan.folders if layout.is_class(folder)}
    _check_classes(root, photos, classes, notices)
    return Listing(photos, tuple(notices), tuple(map(printable, layout.remarks)))


def find_images(root: Path) -> list[LabelledImage]:
    """As `list_images`, the images alone."""
    return list_images(root).photos


def list_unlabelled(root: Path) -> Listing:
    """List the images below a folder, sorted by path; the names of folders mean nothing.

    Returns:
        Photos of the train split with empty labels.

    Raises:
        DatasetError: no such folder, or no image in it.
    """
    if not root.is_dir():
        raise DatasetError(
            f"No such folder: {root}.", "Name a folder of images; labels are not needed."
        )
    scan = scan_folder(root)
    if not scan.images:
        raise DatasetError(
            f"{root} holds no images ({', '.join(sorted(SUFFIXES))}).{_passed_over(scan.notices)}",
            "Name a folder of images; labels are not needed.",
        )
    refuse_misnamed(root, misnamed_of(scan.images))
    return Listing([LabelledImage(path, "", "train") for path in scan.images], tuple(scan.notices))


def find_unlabelled(root: Path) -> list[LabelledImage]:
    """As `list_unlabelled`, the images alone."""
    return list_unlabelled(root).photos


def say_notices(name: str, notices: Iterable[Notice]) -> None:
    """Print what was passed over in a folder, one line a reason."""
    for text in sentences(notices, "error", "warning", "note"):
        say(f"  {name}: {text}")


def fingerprint(root: Path, photos: list[LabelledImage], notices: Iterable[Notice] = ()) -> str:
    """Hex sha256 over path, label, split and bytes of every file; those without digest are read.

    What was passed over counts where a person may have meant it: that is found again, and mended.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda photo: photo.sha256 or _digest_of(root / photo.path), photos)
        rows = [[p.path, p.label, p.split, d] for p, d in zip(photos, digests, strict=True)]
    meant = sorted([n.path, n.reason, n.what] for n in notices if severity_of(n.reason) != "note")
    return digest_of_json(rows + meant)


def _digest_of(path: Path) -> str:
    """Of a file's bytes; of one that cannot be read, why."""
    try:
        return sha256_of_file(path)
    except OSError as error:
        return error.strerror or type(error).__name__


def _check_classes(
    root: Path, photos: list[LabelledImage], folders: Iterable[str], notices: list[Notice]
) -> None:
    labels = labels_of(photos)
    loose = sum(notice.reason == "outside" for notice in notices)
    detail = f", only {loose} loose images" if loose else ""
    if not labels:
        raise DatasetError(
            f"{root} holds no class folders{detail}.{_passed_over(notices)}",
            "Put the images of each class into a folder named after it.",
        )
    parents = {photo.path.rpartition("/")[0] for photo in photos}
    holding = parents | {up.as_posix() for path in parents for up in PurePosixPath(path).parents}
    if empty := sorted(set(folders) - holding):
        inside = [notice for notice in notices if notice.path.startswith(f"{empty[0]}/")]
        raise DatasetError(
            f"The class folder {root / empty[0]} holds no images ({', '.join(sorted(SUFFIXES))})."
            f"{_passed_over(inside)}",
            "Add images, or remove the folder.",
        )
    if len(labels) == 1:
        inner = {PurePosixPath(photo.path).parts[1:-1] for photo in photos} - {()}
        level = ", or say data.class_level=2 where the folders in it are the classes"
        raise DatasetError(
            f"{root} holds one class only ({labels[0]!r}); a classifier needs two or more.",
            f"Add a folder for each other class{level if len(inner) > 1 else ''}.",
        )
    trained = {photo.label for photo in photos if photo.split in ("", "train")}
    if unknown := sorted(set(labels) - trained):
        refuse_twins(root, unknown, trained)
        raise DatasetError(
            f"{root}: {', '.join(unknown)} occur in val or test but not in train.",
            "Add training images for them, or remove them.",
        )


def _passed_over(notices: Iterable[Notice]) -> str:
    """What of it a person may have meant."""
    return "".join(f" {text}" for text in sentences(notices, "error"))

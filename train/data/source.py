"""Where labelled photographs come from: class folders, split folders, list files or shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from serve.contract.errors import DatasetError
from serve.contract.labels import label_problem, without_unseen
from train.data.folders.file_names import (
    Misnamed,
    misnamed_of,
    name_problem,
    refuse_arguments,
    refuse_misnamed,
    rename,
)
from train.data.folders.notices import Notice
from train.data.folders.scan import SUFFIXES
from train.data.images import DEFAULT, LabelledImage, Listing, fingerprint, list_images
from train.data.list_file import ListedPhotos, list_files, read_list, read_split_lists
from train.data.shards.patterns import Origin, ShardPattern
from train.data.shards.shard_images import find_images_in_shards, index_folder
from train.options import DataOptions

__all__ = ["Source", "name_of", "open_source", "root_of"]


@dataclass(frozen=True)
class Source:
    """Labelled photographs, before any of them is opened.

    Args:
        root: the folder that the paths are relative to.
        photos: sorted by path.
        places: path -> file and line that name it; empty where no list does.
        notices: what of a folder was passed over, and why.
        remarks: how splits and classes of a folder were told.
        misnamed: files and folders whose names cannot be used; their images are not in `photos`.
    """

    root: Path
    photos: list[LabelledImage]
    places: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    remarks: tuple[str, ...] = ()
    misnamed: tuple[Misnamed, ...] = ()

    @property
    def listing(self) -> Listing:
        """The photographs and what was passed over, as the audit takes them."""
        return Listing(self.photos, self.notices, self.remarks, self.places)

    def fingerprint(self) -> str:
        """Hex sha256 over paths, labels, splits and bytes: changes when any of them does."""
        return fingerprint(self.root, self.photos, self.notices)


def open_source(
    path: Origin,
    options: DataOptions = DEFAULT,
    misnamed: Literal["refuse", "leave out"] = "refuse",
) -> Source:
    """List the photographs of a folder, of a list file or of shards.

    Args:
        path: a folder of class folders or split folders; a folder with train.csv or train.txt (and
            val, test); a list, CSV `path,label[,split]` or plain `path label` lines; or the
            pattern of WebDataset shards.
        options: `splits` and `class_level` of a folder whose names do not say them.
        misnamed: what becomes of images whose names are not UTF-8 or hold control characters.

    Raises:
        DatasetError: nothing there that could be used; of a list it names file and line, of shards
            the shard and the sample.
    """
    if isinstance(path, Path):
        refuse_arguments([str(path.resolve())])
    source = _opened(path, options)
    _check_labels(path, source)
    source = _without_misnamed(source)
    if misnamed == "refuse":
        refuse_misnamed(source.root, source.misnamed)
    return source


def _opened(path: Origin, options: DataOptions) -> Source:
    if isinstance(path, ShardPattern):
        return Source(index_folder(path), find_images_in_shards(path))
    if path.is_file():
        if path.suffix.lower() in SUFFIXES:
            raise DatasetError(
                f"{path} is an image, not a list of images.", "Name a folder or a list file."
            )
        return _source(path.resolve().parent, read_list(path))
    files = list_files(path) if path.is_dir() else {}
    try:
        found = list_images(path, options)
    except DatasetError as error:
        if "train" in files:
            return _source(path, read_split_lists(files))
        if not files:
            raise
        names = ", ".join(file.name for file in files.values())
        raise DatasetError(
            f"{error.message} Of its lists ({names}) none is of train.",
            f"{error.next_step} Or add train.csv.",
        ) from error
    if "train" in files and files["train"].stem.lower() == "train":  # else a log, more likely
        return _agreeing(path, files, found)
    return Source(path, found.photos, {}, found.notices, found.remarks)


def root_of(path: Origin) -> Path:
    """The folder that the paths of a source are relative to, without opening the source."""
    if isinstance(path, ShardPattern):
        return index_folder(path)
    return path.resolve().parent if path.is_file() else path


def name_of(path: Origin) -> str:
    """What a run of it is called: the folder's name, or the list's without its suffix."""
    if isinstance(path, ShardPattern):
        return path.name
    path = path.resolve()
    return path.stem if path.is_file() else path.name


def _check_labels(path: Origin, source: Source) -> None:
    """Refuse labels that would not come back from a list as they are; see `serve.contract`."""
    for label in sorted({photo.label for photo in source.photos}):
        problem = label_problem(label)
        if not problem or "UTF-8" in problem:  # such a folder has a name that cannot be used
            continue
        photo = next(photo for photo in source.photos if photo.label == label)
        folder = next((p for p in (source.root / photo.path).parents if p.name == label), None)
        place = source.places.get(photo.path, "" if folder is None else str(folder.parent))
        step = "Write another label."
        if folder is not None and isinstance(path, Path) and not source.places:
            step = f"Rename it: {rename(str(folder), without_unseen(label))}"
        place = place or f"{path}, {photo.path}"
        raise DatasetError(f"{place}: the label {label!a} {problem}.", step)


def _without_misnamed(source: Source) -> Source:
    misnamed = misnamed_of(photo.path for photo in source.photos)
    if not misnamed:
        return source
    photos = [photo for photo in source.photos if not name_problem(photo.path)]
    if len({photo.label for photo in photos}) < 2:
        refuse_misnamed(source.root, misnamed)
    return replace(source, photos=photos, misnamed=tuple(misnamed))


def _source(root: Path, listing: ListedPhotos) -> Source:
    places = {photo.path: place for photo, place in listing}
    return Source(root, [photo for photo, _ in listing], places)


def _agreeing(root: Path, files: dict[str, Path], found: Listing) -> Source:
    """Lists beside class folders may add the split; what they label otherwise is ambiguous."""
    source = _source(root, read_split_lists(files))
    has_splits = any(photo.split for photo in found.photos)
    listed, in_folders = (
        {(photo.path, photo.label, photo.split * has_splits) for photo in each}
        for each in (source.photos, found.photos)
    )
    differing = sorted(listed ^ in_folders)
    if not differing:
        return replace(source, notices=found.notices, remarks=found.remarks)
    path, label, _ = differing[0]
    by = "the lists" if differing[0] in listed else "the folders"
    raise DatasetError(
        f"{root} has class folders and {files['train'].name}, and they differ: {path!r} as "
        f"{label!r} is in {by} alone.",
        "Name one list with a column split instead of the folder, or move the lists out.",
    )

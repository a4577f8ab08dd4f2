"""Source: where labelled images come from. Chosen once, by `source_of`, and never asked again.

A folder and a list file are here; any other kind is a line in SOURCES: what its text looks like,
and the class, which is loaded when such a text is met.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Literal, Protocol, Self

from serve.contract.errors import DatasetError
from serve.contract.labels import label_problem, without_unseen
from train.data.folder import DEFAULT, Listing, fingerprint, list_images
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
from train.data.images import LabelledImage
from train.data.list_file import ListedPhotos, list_files, read_list, read_split_lists
from train.options import DataOptions

__all__ = [
    "SOURCES",
    "FileSource",
    "OpenedSource",
    "Origin",
    "Source",
    "name_of",
    "open_source",
    "origin_of",
    "root_of",
    "source_of",
]

# Sources that are neither a folder nor a list file: (what their text looks like, the class).
SOURCES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"^https?://|::|\.(tar(\.\w+)?|tgz)$"), "train.data.shards.source:ShardSource"),
]


class Source(Protocol):
    """Labelled images by name; `str` of it is what the user typed.

    Their bytes are read by `train.data.image_bytes`, by their paths below `root`.
    """

    @property
    def name(self) -> str:
        """What a run of it is called."""

    @property
    def root(self) -> Path:
        """The folder that paths of images are relative to; nothing is opened to tell it."""

    def resolve(self) -> Source:
        """The same images, named so that the working folder does not matter."""

    def images(self, options: DataOptions) -> Listing:
        """List the images, sorted by path.

        Raises:
            DatasetError: nothing there that could be used.
        """


Origin = Path | Source  # a folder or a list file, or one of SOURCES


@dataclass(frozen=True)
class OpenedSource:
    """Labelled images that were listed, before any of them is opened.

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
        """The images and what was passed over, as the audit takes them."""
        return Listing(self.photos, self.notices, self.remarks, self.places)

    def fingerprint(self) -> str:
        """Hex sha256 over paths, labels, splits and bytes: changes when any of them does."""
        return fingerprint(self.root, self.photos, self.notices)


def open_source(
    path: Origin,
    options: DataOptions = DEFAULT,
    misnamed: Literal["refuse", "leave out"] = "refuse",
) -> OpenedSource:
    """List the images of a folder, of a list file or of shards.

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
    source = _opened(source_of(path), options)
    _check_labels(path, source)
    source = _without_misnamed(source)
    if misnamed == "refuse":
        refuse_misnamed(source.root, source.misnamed)
    return source


def origin_of(text: str) -> Origin:
    """Take what looks like one of SOURCES for that, all else for a folder or a list file.

    Raises:
        DatasetError: the text is empty.
    """
    if not text.strip():
        raise DatasetError(
            "The name of the images is empty.",
            "Name a folder, a list file, or shards such as 'photos/train-{000000..000009}.tar'.",
        )
    for pattern, plug in SOURCES:
        if pattern.search(text) and not Path(text).is_dir():
            source: Source = resolve_name(plug)(text)
            return source
    return Path(text)


def source_of(origin: Origin) -> Source:
    """The source at an origin."""
    if not isinstance(origin, Path):
        return origin
    return ListSource(str(origin)) if origin.is_file() else FolderSource(origin)


def root_of(origin: Origin) -> Path:
    """The folder that the paths of a source are relative to, without opening the source."""
    return source_of(origin).root


def name_of(origin: Origin) -> str:
    """What a run of it is called: the folder's name, or the list's without its suffix."""
    return source_of(origin).name


@dataclass(frozen=True)
class FileSource:
    """A file that names images in its folder; each kind of such a file has its own `images`.

    Args:
        text: the path, as the user typed it.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def path(self) -> Path:
        """Absolute path of the file."""
        return Path(self.text).resolve()

    @property
    def name(self) -> str:
        """The file's, without its suffix."""
        return self.path.stem

    @property
    def root(self) -> Path:
        """The folder that holds the file."""
        return self.path.parent

    def resolve(self) -> Self:
        """As `Source`."""
        return type(self)(str(self.path))


class ListSource(FileSource):
    """A list file, see `train.data.list_file`."""

    def images(self, options: DataOptions) -> Listing:
        """As `Source`; errors name file and line."""
        del options  # they are about folders
        path = Path(self.text)
        if path.suffix.lower() in SUFFIXES:
            raise DatasetError(
                f"{path} is an image, not a list of images.", "Name a folder or a list file."
            )
        return _listing(read_list(path))


@dataclass(frozen=True)
class FolderSource:
    """A folder of class folders or split folders, or one with lists such as train.csv."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's."""
        return self.path.resolve().name

    @property
    def root(self) -> Path:
        """The folder."""
        return self.path

    def resolve(self) -> FolderSource:
        """As `Source`."""
        return FolderSource(self.path.resolve())

    def images(self, options: DataOptions) -> Listing:
        """As `Source`; lists beside class folders may add the split."""
        files = list_files(self.path) if self.path.is_dir() else {}
        try:
            found = list_images(self.path, options)
        except DatasetError as error:
            if "train" in files:
                return _listing(read_split_lists(files))
            if not files:
                raise
            names = ", ".join(file.name for file in files.values())
            raise DatasetError(
                f"{error.message} Of its lists ({names}) none is of train.",
                f"{error.next_step} Or add train.csv.",
            ) from error
        if "train" in files and files["train"].stem.lower() == "train":  # else a log, more likely
            return _agreeing(self.path, files, found)
        return found


def _opened(source: Source, options: DataOptions) -> OpenedSource:
    found = source.images(options)
    return OpenedSource(source.root, found.photos, found.places, found.notices, found.remarks)


def _check_labels(path: Origin, source: OpenedSource) -> None:
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


def _without_misnamed(source: OpenedSource) -> OpenedSource:
    misnamed = misnamed_of(photo.path for photo in source.photos)
    if not misnamed:
        return source
    photos = [photo for photo in source.photos if not name_problem(photo.path)]
    if len({photo.label for photo in photos}) < 2:
        refuse_misnamed(source.root, misnamed)
    return replace(source, photos=photos, misnamed=tuple(misnamed))


def _listing(listed: ListedPhotos) -> Listing:
    return Listing([photo for photo, _ in listed], places={p.path: place for p, place in listed})


def _agreeing(root: Path, files: dict[str, Path], found: Listing) -> Listing:
    """Lists beside class folders may add the split; what they label otherwise is ambiguous."""
    source = _listing(read_split_lists(files))
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

"""Images by list files: every line is checked against the disk and against the others."""

from __future__ import annotations

import difflib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from serve.contract.errors import DatasetError
from serve.contract.labels import refuse_twins
from train.data.folders.file_names import escaped, misnamed_of, name_problem, repair
from train.data.folders.scan import SUFFIXES, why_no_image
from train.data.folders.split_words import split_of
from train.data.images import LabelledImage
from train.data.list_rows import ListRow, read_rows

__all__ = ["LEAST", "ListedPhotos", "list_files", "read_list", "read_split_lists"]

LIST_SUFFIXES = (".csv", ".txt")
LEAST = 3  # images of a class: one each to train, validate and test

ListedPhotos = list[tuple[LabelledImage, str]]  # each image, and the file and line that name it


def list_files(folder: Path) -> dict[str, Path]:
    """The lists of a folder by split: files called train, val or test, .csv or .txt.

    Raises:
        DatasetError: two lists of one split.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        split = split_of(path.stem)
        if not split or path.suffix.lower() not in LIST_SUFFIXES or not path.is_file():
            continue
        if split in found:
            raise DatasetError(
                f"{folder} has two lists of one split: {found[split].name} and {path.name}.",
                "Move one of them out, or name a list instead of the folder.",
            )
        found[split] = path
    return found


def read_list(file: Path) -> ListedPhotos:
    """The images of one list; paths in it are relative to its folder, or absolute.

    Returns:
        Sorted by path; `LabelledImage.path` is relative to the folder of the list, and may leave
        it.

    Raises:
        DatasetError: names the file, the line and the next step.
    """
    return _listing(file.resolve().parent, read_rows(file))


def read_split_lists(files: dict[str, Path]) -> ListedPhotos:
    """The images of several lists of one folder, a list a split.

    Args:
        files: split -> list, as of `list_files`.

    Raises:
        DatasetError: names the file, the line and the next step.
    """
    rows = []
    for split, file in files.items():
        for row in read_rows(file):
            if row.split not in ("", split):
                raise DatasetError(
                    f"{row.place}: the split is {row.split!r} in the list of {split}.",
                    "Move the line into the list of its split, or leave the column split out.",
                )
            rows.append(ListRow(row.path, row.label, split, row.file, row.line))
    return _listing(next(iter(files.values())).resolve().parent, rows)


def _listing(root: Path, rows: list[ListRow]) -> ListedPhotos:
    paths = [_relative(root, row.path) for row in rows]
    _check_files(root, rows, paths)
    _check_named_once(rows, paths)
    _check_splits(rows)
    _check_classes(rows)
    found = [
        (LabelledImage(path, row.label, row.split), row.place)
        for path, row in zip(paths, rows, strict=True)
    ]
    return sorted(found, key=lambda one: one[0].path)


def _relative(root: Path, path: str) -> str:
    """One spelling for one place: what follows joins it to a root, which may be a link."""
    if Path(path).is_absolute():
        return Path(os.path.relpath(path, root)).as_posix()
    return Path(os.path.normpath(path)).as_posix()


def _check_files(root: Path, rows: list[ListRow], paths: list[str]) -> None:
    missing: list[tuple[ListRow, str]] = []
    for row, path in zip(rows, paths, strict=True):
        problem = _problem_of(root / path)
        if problem == "there is no such file":
            missing.append((row, problem))
        elif problem:
            raise DatasetError(
                f"{row.place}: {row.path!r}: {problem}.", "Name an image, or remove the line."
            )
    if missing:
        row, problem = missing[0]
        more = f", nor are {len(missing) - 1} others" if len(missing) > 1 else ""
        folder = (root / _relative(root, row.path)).parent
        raw = (
            [name for name, _ in misnamed_of(one.name for one in folder.iterdir())]
            if folder.is_dir()
            else []
        )
        if raw:  # a list in UTF-8 cannot name such a file
            raise DatasetError(
                f"{row.place}: the image {row.path!r} is not there{more}; beside it the name of "
                f"{escaped(raw[0])} {name_problem(raw[0])}.",
                repair(folder, raw),
            )
        raise DatasetError(
            f"{row.place}: the image {row.path!r} is not there{more}.",
            f"Paths are relative to the list's folder, {root}: mend them, or move the list.",
        )


def _problem_of(path: Path) -> str:
    """Why a path is not an image file, by its name and kind; empty where it may be one."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        return "there is no such file"
    except OSError as error:
        return error.strerror or type(error).__name__
    if stat.S_ISDIR(mode):
        return "this is a folder, not an image"
    if not stat.S_ISREG(mode):
        return "this is not a regular file"
    return "" if path.suffix.lower() in SUFFIXES else why_no_image(path)


def _check_named_once(rows: list[ListRow], paths: list[str]) -> None:
    seen: dict[str, ListRow] = {}
    for row, path in zip(rows, paths, strict=True):
        first = seen.setdefault(path, row)
        if first is row:
            continue
        labels = repr(row.label)
        if first.label != row.label:
            labels = f"{first.label!r} and {row.label!r}"
        raise DatasetError(
            f"{row.place}: {row.path!r} is named twice, first in {first.place}, as {labels}.",
            "Keep one of the two lines.",
        )


def _check_splits(rows: list[ListRow]) -> None:
    without = [row for row in rows if not row.split]
    if len(without) == len(rows):
        return
    if without:
        other = next(row for row in rows if row.split)
        raise DatasetError(
            f"{without[0].place}: no split, but {other.place} has one ({other.split}).",
            "Give every line a split, or none.",
        )
    trained = {row.label for row in rows if row.split == "train"}
    if not trained:
        raise DatasetError(
            f"{rows[0].file} has no line of the split train.", "Add lines to train on."
        )
    for row in rows:
        if row.label not in trained:
            refuse_twins(row.place, [row.label], trained)
            near = difflib.get_close_matches(row.label, trained, 1, 0.6)
            hint = f"Did you mean {near[0]!r}? Else add" if near else "Add"
            raise DatasetError(
                f"{row.place}: the label {row.label!r} of {row.split} does not occur in train.",
                f"{hint} training images of it, or remove the line.",
            )


def _check_classes(rows: Iterable[ListRow]) -> None:
    classes: dict[str, list[ListRow]] = defaultdict(list)
    for row in rows:
        classes[row.label].append(row)
    if len(classes) == 1:
        ((label, members),) = classes.items()
        raise DatasetError(
            f"{members[0].file} lists one class only ({label!r}); a classifier needs two or more.",
            "Add images of the other classes.",
        )
    for label, members in sorted(classes.items()):
        if len(members) < LEAST:
            images = "1 image" if len(members) == 1 else f"{len(members)} images"
            raise DatasetError(
                f"{members[0].place}: the class {label!r} has {images}; it needs {LEAST} or more, "
                "to train, validate and test on.",
                "Add images of it (better 50), or remove its lines.",
            )

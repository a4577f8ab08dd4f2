"""predictions.csv, read strictly: what is wrong is named with file and line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from serve.contract.errors import UsageError
from train.data.images import LabelledImage
from train.evaluation import Predictions

__all__ = ["read_checked"]

COLUMNS = ("path", "sha256", "label", "split", "predicted")
SPLITS = ("train", "val", "test")
LOGIT = "logit:"
NEXT = "predictions.csv is written by training: stillroom train PHOTOS --run RUN"


def read_checked(path: Path) -> Predictions:
    """Read predictions.csv row by row; the logits are bit for bit those that were written.

    Raises:
        UsageError: not such a file, or a row contradicts the header, itself or another row.
    """
    photos: list[LabelledImage] = []
    logits: list[NDArray[np.float32]] = []
    seen: dict[str, int] = {}
    rows = _rows(path)
    _, header = next(rows, (0, []))
    columns, labels = _read_header(path, header)
    logit_columns = [i for i, name in enumerate(header) if name.startswith(LOGIT)]
    for line, row in rows:
        if len(row) != len(header):
            _refuse(path, line, f"{len(row)} values, the header has {len(header)}")
        values = [row[i] for i in columns]
        photo = LabelledImage(values[0], values[2], values[3], values[1])
        scores = _read_logits(path, line, [row[i] for i in logit_columns])
        _check(path, line, photo, values[4], labels, scores)
        if photo.path in seen:
            _refuse(path, line, f"repeats {photo.path!r} of line {seen[photo.path]}")
        seen[photo.path] = line
        photos.append(photo)
        logits.append(scores)
    if not photos:
        _refuse(path, 2, "no predictions, only a header")
    return Predictions(photos, labels, np.stack(logits))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line that each ends on; blank lines are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file, strict=True)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            _refuse(path, max(1, reader.line_num), f"no CSV ({error})")
        except UnicodeDecodeError:
            _refuse(path, _undecodable_line(path), "bytes that are not UTF-8")


def _undecodable_line(path: Path) -> int:
    """The text is decoded in blocks, so the reader does not know which line it was."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _read_header(path: Path, header: list[str]) -> tuple[list[int], tuple[str, ...]]:
    """Positions of COLUMNS, and the class names."""
    if missing := [name for name in COLUMNS if name not in header]:
        _refuse(path, 1, f"no column {', '.join(missing)}")
    labels = tuple(name.removeprefix(LOGIT) for name in header if name.startswith(LOGIT))
    if len(labels) < 2:
        _refuse(path, 1, f"{len(labels)} columns {LOGIT}<class>, expected two or more")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        _refuse(path, 1, f"the column {twice!r} occurs twice")
    return [header.index(name) for name in COLUMNS], labels


def _read_logits(path: Path, line: int, values: list[str]) -> NDArray[np.float32]:
    try:
        scores = np.array(values, dtype=np.float32)
    except ValueError as error:
        _refuse(path, line, f"a logit is not a number ({error})")
    if not np.isfinite(scores).all():
        _refuse(path, line, f"a logit is {values[int(np.argmin(np.isfinite(scores)))]}")
    return scores


def _check(
    path: Path,
    line: int,
    photo: LabelledImage,
    predicted: str,
    labels: tuple[str, ...],
    scores: NDArray[np.float32],
) -> None:
    if photo.split not in SPLITS:
        _refuse(path, line, f"split {photo.split!r}, expected {', '.join(SPLITS)}")
    if photo.label not in labels:
        _refuse(path, line, f"label {photo.label!r} has no column {LOGIT}{photo.label}")
    if predicted != (best := labels[int(np.argmax(scores))]):
        _refuse(path, line, f"predicted {predicted!r}, but the largest logit is that of {best!r}")


def _refuse(path: Path, line: int, what: str) -> NoReturn:
    raise UsageError(f"{path}, line {line}: {what}.", NEXT)

"""The text of a list file: CSV `path,label[,split]`, or the plain `path label` of older tools."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from serve.contract.errors import DatasetError
from serve.contract.labels import label_problem
from train.data.folders.split_words import SPLIT_WORDS, split_of

__all__ = ["ListRow", "read_rows"]

COLUMNS = ("path", "label", "split")
HEADER = "The first line must be path,label or path,label,split."
PLAIN = re.compile(r"(.+?)[ \t]+([^ \t]+)")  # the path may hold blanks, the label may not


@dataclass(frozen=True)
class ListRow:
    """One image as a list names it.

    Args:
        path: as written.
        label: the class.
        split: train, val or test; empty where the list does not say.
        file: the list.
        line: its number in the list, from 1.
    """

    path: str
    label: str
    split: str
    file: Path
    line: int

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{self.file}, line {self.line}"


def read_rows(file: Path) -> list[ListRow]:
    """Read a list. A file is CSV by its suffix `.csv` or its header, and plain otherwise.

    In a plain list the label is the last word of a line; blank lines and lines that begin with #
    are skipped. Blanks around a value do not belong to it.

    Returns:
        One row an image, in the order of the file; at least one.

    Raises:
        DatasetError: not UTF-8, no rows, or a line that cannot be read; it names file and line.
    """
    text = _text_of(file)
    rows = list(_csv_rows(file, text) if _is_csv(file, text) else _plain_rows(file, text))
    if not rows:
        raise DatasetError(f"{file} lists no images.", "Write one line an image: path and label.")
    return rows


def _text_of(file: Path) -> str:
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _refuse(file, line, "the text is not UTF-8", "Save the list as UTF-8 text.")


def _is_csv(file: Path, text: str) -> bool:
    first = next((line for line in text.split("\n") if line.strip() and line[0] != "#"), "")
    header = {cell.strip().lower() for cell in first.split(",")}
    return file.suffix.lower() == ".csv" or header >= {"path", "label"}


def _plain_rows(file: Path, text: str) -> Iterator[ListRow]:
    for number, line in enumerate(text.split("\n"), 1):
        content = line.strip(" \t\r")
        if not content or content.startswith("#"):
            continue
        found = PLAIN.fullmatch(content)
        if found is None:
            step = f"Write path and label with a blank between them, or CSV. {HEADER}"
            _refuse(file, number, f"{content!r} has no label", step)
        yield _row(file, number, {"path": found[1], "label": found[2]})


def _csv_rows(file: Path, text: str) -> Iterator[ListRow]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    while True:
        number = reader.line_num + 1  # a quoted value may hold line ends: the row's first line
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            step = 'Close every quotation mark, and write one inside a value twice: "".'
            _refuse(file, number, f"this is not CSV ({error})", step)
        if cells in ([], [""]):
            continue
        if not columns:
            columns = _columns_of(file, number, cells)
            continue
        if len(cells) != len(columns):
            what = f"{len(cells)} values, expected {len(columns)} ({','.join(columns)})"
            _refuse(file, number, what, "Put a value that holds commas between quotation marks.")
        yield _row(file, number, dict(zip(columns, cells, strict=True)))


def _columns_of(file: Path, line: int, cells: list[str]) -> list[str]:
    columns = [cell.lower() for cell in cells]
    for name in columns:
        if name not in COLUMNS:
            _refuse(file, line, f"unknown column {name[:80]!r}", f"{_near(name, COLUMNS)}{HEADER}")
        if columns.count(name) > 1:
            _refuse(file, line, f"the column {name!r} occurs twice", HEADER)
    for name in COLUMNS[:2]:
        if name not in columns:
            _refuse(file, line, f"no column {name!r}", HEADER)
    return columns


def _row(file: Path, line: int, values: dict[str, str]) -> ListRow:
    for name in COLUMNS[:2]:
        if not values[name]:
            _refuse(file, line, f"the {name} is empty", f"Write the {name}, or remove the line.")
    if problem := label_problem(values["label"]):
        what = f"the label {values['label']!a} {problem}"
        _refuse(file, line, what, "Write labels of printable characters.")
    word = values.get("split", "")
    split = split_of(word)
    if word and not split:
        what = f"unknown split {word!r}"
        _refuse(file, line, what, f"{_near(word, tuple(SPLIT_WORDS))}Splits: train, val, test.")
    return ListRow(values["path"], values["label"], split, file, line)


def _near(name: str, valid: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name.lower(), valid, 1, 0.5)
    return f"Did you mean {near[0]!r}? " if near else ""


def _refuse(file: Path, line: int, what: str, next_step: str) -> NoReturn:
    raise DatasetError(f"{file}, line {line}: {what}.", next_step)

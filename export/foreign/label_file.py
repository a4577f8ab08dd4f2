"""labels.txt: the class names of a model that was not trained here, one a line, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from export.foreign.label_forms import LabelEntry, read_entries
from serve.contract.errors import UsageError
from serve.contract.labels import label_problem
from train.engine.progress import say

__all__ = ["read_labels"]

NEXT_STEP = (
    "Write one class name a line, in the order of the model's outputs; names that only look "
    'numbered or quoted as a JSON list: ["10 cent", "20 cent"]'
)
SHOWN = 3


def read_labels(path: Path) -> tuple[str, ...]:
    """Read class names in any form of `label_forms`; says what was not a part of a name.

    Blanks around a name and empty lines at the end do not count. Numbers give the order.

    Returns:
        Two names or more, each once.

    Raises:
        UsageError: no such file, not UTF-8, an empty or repeated line, a control character, fewer
            than two names, numbers that are not 0 to K - 1; it names the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"--labels {path}: no such file.", NEXT_STEP) from None
    except IsADirectoryError:
        raise UsageError(f"--labels {path} is a folder, not a file.", NEXT_STEP) from None
    except UnicodeDecodeError:
        raise UsageError(f"--labels {path}: the text is not UTF-8.", "Save it as UTF-8.") from None
    try:
        entries, how = read_entries(text)
    except ValueError as error:
        raise UsageError(f"--labels {path}: {error}.", NEXT_STEP) from None
    entries.sort(key=lambda entry: entry.number or 0)
    _check(path, entries)
    if len(entries) < 2:
        raise UsageError(f"--labels {path}: a classifier has two classes or more.", NEXT_STEP)
    names = tuple(entry.name for entry in entries)
    if how:
        more = ", ..." if len(names) > SHOWN else ""
        say(f"  {path.name} is read {how}: {', '.join(map(repr, names[:SHOWN]))}{more}")
    return names


def _check(path: Path, entries: list[LabelEntry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        if not entry.name and len(entries) > 1:
            _refuse(path, entry.place, "is empty")
        if entry.name and (problem := label_problem(entry.name)):
            _refuse(path, entry.place, f"{problem}: {entry.name!a}")
        if entry.name in seen:
            _refuse(path, entry.place, f"repeats {entry.name!r} of {seen[entry.name]}")
        seen[entry.name] = entry.place


def _refuse(path: Path, place: str, what: str) -> NoReturn:
    raise UsageError(f"--labels {path}: {place} {what}.", NEXT_STEP)

"""labels.txt: the class names of a model that was not trained here, one a line, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from serve.contract.errors import UsageError
from serve.contract.labels import label_problem

__all__ = ["read_labels"]

NEXT_STEP = "Write one class name a line, in the order of the model's outputs."


def read_labels(path: Path) -> tuple[str, ...]:
    """Read class names. Blanks around a name and empty lines at the end do not count.

    Returns:
        Two names or more, each once.

    Raises:
        UsageError: no such file, not UTF-8, an empty or repeated line, a control character, or
            fewer than two names; it names the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"--labels {path}: no such file.", NEXT_STEP) from None
    except UnicodeDecodeError:
        raise UsageError(f"--labels {path}: the text is not UTF-8.", "Save it as UTF-8.") from None
    names = [line.strip() for line in text.rstrip().split("\n")]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name and len(names) > 1:
            _refuse(path, number, "is empty")
        if name and (problem := label_problem(name)):
            _refuse(path, number, f"{problem}: {name!a}")
        if name in seen:
            _refuse(path, number, f"repeats {name!r} of line {seen[name]}")
        seen[name] = number
    if len(names) < 2:
        raise UsageError(f"--labels {path}: a classifier has two classes or more.", NEXT_STEP)
    return tuple(names)


def _refuse(path: Path, line: int, what: str) -> NoReturn:
    raise UsageError(f"--labels {path}: line {line} {what}.", NEXT_STEP)

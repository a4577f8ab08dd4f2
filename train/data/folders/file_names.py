"""Names of files: which can be written into a list and read back, and how to mend the others."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from serve.contract.errors import DatasetError, UsageError
from serve.contract.labels import without_unseen

__all__ = [
    "Misnamed",
    "escaped",
    "misnamed_of",
    "name_problem",
    "refuse_arguments",
    "refuse_misnamed",
    "rename",
    "repair",
]

Misnamed = tuple[str, int]  # a file or folder below the root, and the images that it costs

ENCODINGS = ("cp1252", "cp437")  # of zip files made on Windows; the second knows every byte
# All names below a folder that are not UTF-8, the deepest first; nothing is written over.
RENAME_ALL = (
    "import os; [os.rename(os.path.join(d, n), m) for d, ds, fs in "
    "os.walk(os.fsencode({folder}), topdown=False) for n in ds + fs "
    "if n.decode('utf-8', 'ignore').encode() != n and not os.path.lexists("
    "m := os.path.join(d, n.decode({encoding!r}).encode()))]"
)
UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def name_problem(path: str) -> str:
    """Why a path cannot be written into a list and read back; empty where it can.

    To follow "the name of ...".
    """
    for character in path:
        category = unicodedata.category(character)
        if category == "Cs":
            return "is not UTF-8"
        if category == "Cc":
            return f"holds a control character (U+{ord(character):04X})"
    return "begins or ends with a blank" if path != path.strip() else ""


def escaped(path: str) -> str:
    """A path as it can be printed: bytes that are not UTF-8 and control characters escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(
        f"\\x{ord(c):02x}" if unicodedata.category(c) == "Cc" and ord(c) < 256 else c for c in text
    )


def misnamed_of(paths: Iterable[str]) -> list[Misnamed]:
    """Of the paths that cannot be used the part that is wrong: a folder, or the file itself."""
    found: Counter[str] = Counter()
    for path in paths:
        if name_problem(path):
            parts = path.split("/")
            wrong = next((i for i, part in enumerate(parts) if name_problem(part)), len(parts) - 1)
            found["/".join(parts[: wrong + 1])] += 1
    return sorted(found.items(), key=lambda one: os.fsencode(one[0]))


def refuse_misnamed(root: Path, misnamed: Sequence[Misnamed]) -> None:
    """Refuse names that cannot be used, with the command that mends them.

    Raises:
        DatasetError: there is one.
    """
    if misnamed:
        first = misnamed[0][0]
        more = f", and {len(misnamed) - 1} more" if len(misnamed) > 1 else ""
        raise DatasetError(
            f"{root}: the name of {escaped(first)} {name_problem(first)}{more}.",
            repair(root, [name for name, _ in misnamed]),
        )


def refuse_arguments(arguments: Iterable[str]) -> None:
    """Refuse words of the command line that are not UTF-8, or such a working folder.

    Raises:
        UsageError: there is one.
    """
    for word in (*arguments, str(Path.cwd())):
        if _is_raw(word):
            path = next(p for p in (*reversed(Path(word).parents), Path(word)) if _is_raw(str(p)))
            there = os.path.lexists(path)
            raise UsageError(
                f"{escaped(word)} is not UTF-8.",
                f"Rename it: {rename(str(path), '')}" if there else "Write it in UTF-8.",
            )


def repair(root: Path, names: Sequence[str]) -> str:
    """The command that gives files and folders names that can be used."""
    raw = [name for name in names if _is_raw(name)]
    if len(raw) < 2:
        first = (raw or names)[0]
        return f"Rename it: {rename(str(root / first), '')}"
    encoding = _encoding_of(raw)
    new = raw[0].encode(errors="surrogateescape").decode(encoding)
    code = RENAME_ALL.format(folder=repr(str(root)), encoding=encoding)
    return (
        f"Rename all below it ({escaped(raw[0])} becomes {new}; put another encoding for "
        f"{encoding} where that is wrong): python3 -c {shlex.quote(code)}"
    )


def rename(path: str, new: str) -> str:
    """A line for bash that gives a file or folder another name, whatever the old one holds.

    Args:
        path: that is there.
        new: its name; empty for the nearest that can be used.
    """
    old = Path(path)
    if not new:
        name = old.name
        if _is_raw(name):
            name = os.fsencode(name).decode(_encoding_of([name]))
        new = without_unseen(name) or "renamed"
    target = old.with_name(new)
    if old.is_dir() and target.is_dir():
        return f"mv -n -- {_quoted(path)}/* {_quoted(str(target))}/"
    while os.path.lexists(target):
        target = target.with_stem(f"{target.stem}-2")
    return f"mv -nT -- {_quoted(path)} {_quoted(str(target))}"


def _encoding_of(names: Sequence[str]) -> str:
    """What names that are not UTF-8 may be written in."""
    for encoding in ENCODINGS[:-1]:
        try:
            for name in names:
                os.fsencode(name).decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return ENCODINGS[-1]


def _is_raw(path: str) -> bool:
    return any(unicodedata.category(character) == "Cs" for character in path)


def _quoted(path: str) -> str:
    """For bash; what cannot be seen or typed as it is becomes its bytes."""
    if not any(unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" for c in path) and (
        path == unicodedata.normalize("NFC", path)
    ):
        return shlex.quote(path)
    return "$'" + "".join(map(_escape, os.fsencode(path))) + "'"


def _escape(byte: int) -> str:
    character = chr(byte)
    if character in "'\\":
        return f"\\{character}"
    return f"\\{byte:03o}" if UNPRINTABLE.match(character) else character

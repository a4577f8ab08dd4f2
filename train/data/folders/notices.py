"""What a walk of a folder passed over, said in one line a reason."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

__all__ = [
    "Notice",
    "Reason",
    "Severity",
    "by_reason_and_class",
    "counted",
    "printable",
    "sentence",
    "sentences",
    "severity_of",
]

Reason = Literal[
    "format",
    "other_suffix",
    "hidden_images",
    "dangling",
    "denied",
    "outside",
    "converted",
    "cycle",
    "again",
    "copy",
    "companion",
    "hidden",
    "special",
    "other",
]
Severity = Literal["error", "warning", "note"]
SHOWN = 4  # classes or kinds in a sentence
KEPT = 100  # paths of one reason and class in audit.json


class _Words(NamedTuple):
    severity: Severity  # error: a person meant them to be read; note: for the record
    one: str
    many: str
    advice: str = ""


WORDS: dict[Reason, _Words] = {
    "format": _Words(
        "error",
        "image is of a format that is not read",
        "images are of formats that are not read",
        "Convert them: stillroom convert, or any program.",
    ),
    "other_suffix": _Words(
        "error",
        "image is named as something else; it was read",
        "images are named as something else; they were read",
        "Rename them.",
    ),
    "hidden_images": _Words(
        "error",
        "hidden folder holds images and was passed over",
        "hidden folders hold images and were passed over",
        "Take the dot off the names of those that are meant.",
    ),
    "dangling": _Words("error", "link leads nowhere", "links lead nowhere", "Mend or remove them."),
    "denied": _Words(
        "error", "path cannot be opened", "paths cannot be opened", "Check their rights."
    ),
    "outside": _Words(
        "warning",
        "image lies outside of all class folders and was passed over",
        "images lie outside of all class folders and were passed over",
    ),
    "converted": _Words(
        "note", "image is read as its converted copy", "images are read as their converted copies"
    ),
    "cycle": _Words(
        "note", "link to a folder that it lies in", "links to folders that they lie in"
    ),
    "again": _Words("note", "linked folder, read already", "linked folders, read already"),
    "copy": _Words("note", "backup or unfinished copy", "backups or unfinished copies"),
    "companion": _Words("note", "folder of another program", "folders of other programs"),
    "hidden": _Words("note", "hidden or system file", "hidden or system files"),
    "special": _Words("note", "pipe, socket or device", "pipes, sockets or devices"),
    "other": _Words("note", "file that is not an image", "files that are not images"),
}


@dataclass(frozen=True)
class Notice:
    """One path that was not simply read as an image.

    Args:
        path: relative to the folder that was walked.
        reason: why.
        what: more about it: what the file is, where a link leads, how many images.
        label: the class that it lies in; empty where it lies in none.
    """

    path: str
    reason: Reason
    what: str = ""
    label: str = ""


def severity_of(reason: Reason) -> Severity:
    """How grave it is: an error where a person meant it to be read, a warning where perhaps."""
    return WORDS[reason].severity


def sentences(notices: Iterable[Notice], *severities: Severity) -> list[str]:
    """One sentence a reason, the gravest reasons first."""
    found = defaultdict(list)
    for notice in notices:
        found[notice.reason].append(notice)
    wanted = [reason for reason in WORDS if reason in found]
    return [sentence(found[r]) for r in wanted if severity_of(r) in severities]


def counted(notices: Iterable[Notice]) -> list[dict[str, Any]]:
    """Counts of each reason and class, as JSON."""
    return [
        {
            "reason": members[0].reason,
            "class": members[0].label,
            "severity": severity_of(members[0].reason),
            "count": len(members),
            "what": dict(sorted(Counter(one.what for one in members if one.what).items())[:KEPT]),
            "paths": [one.path for one in members[:KEPT]],
        }
        for members in by_reason_and_class(notices)
    ]


def by_reason_and_class(notices: Iterable[Notice]) -> list[list[Notice]]:
    """Groups of one reason and class, the gravest reasons first."""
    found = defaultdict(list)
    for notice in notices:
        found[notice.reason, notice.label].append(notice)
    order = list(WORDS)
    return [found[key] for key in sorted(found, key=lambda k: (order.index(k[0]), k[1]))]


def sentence(notices: Sequence[Notice]) -> str:
    """What is to be said of notices of one reason."""
    words = WORDS[notices[0].reason]
    count = len(notices)
    kinds = _listed(Counter(one.what for one in notices if one.what))
    classes = _listed(Counter(one.label for one in notices if one.label))
    where = f", in {classes}" if classes else ""
    first = f"{'first ' if count > 1 else ''}{notices[0].path}"
    detail = f" ({kinds})" if kinds else ""
    text = f"{count} {words.one if count == 1 else words.many}{detail}{where}: {first}."
    return f"{text} {words.advice}".strip()


def printable(text: str) -> str:
    """A name as it can be written everywhere: what is not UTF-8 or not printable is escaped."""
    if text.isprintable():
        return text
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _listed(counts: Counter[str]) -> str:
    """`a 6, b 5`, the largest first."""
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {count}" if len(counts) > 1 or count > 1 else name for name, count in common]
    more = [f"and {len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
    return ", ".join(shown[:SHOWN] + more)

"""Labels: which texts may name a class, and which two would be taken for one another.

One rule for folders, lists, label files, shards and checkpoints. A label is printed, compared,
written to CSV and JSON, and sent over HTTP: what nobody can see in it makes two classes of one.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from serve.contract.errors import DatasetError

__all__ = ["label_problem", "look_alikes", "refuse_twins", "without_unseen"]

REFUSED = {
    "Cc": "a control character",
    "Cs": "bytes that are not UTF-8",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
# Characters that nobody sees: soft hyphen, zero-width space, marks of direction, joiners of words,
# byte order mark. Scripts need the two joiners U+200C and U+200D, and emoji U+FE00 to U+FE0F.
UNSEEN = frozenset(
    map(
        chr,
        (
            *(0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF),
            *range(0x202A, 0x202F),
            *range(0x2060, 0x2070),
            *range(0xFFF9, 0xFFFC),
        ),
    )
)
JOINERS = frozenset(map(chr, (0x200C, 0x200D, *range(0xFE00, 0xFE10))))


def label_problem(label: str) -> str:
    """Why a text may not name a class, to follow "the label ..."; empty where it may."""
    if not label:
        return "is empty"
    for character in label:
        if what := REFUSED.get(unicodedata.category(character)):
            return f"holds {what} ({_code_point(character)})"
        if character in UNSEEN:
            return f"holds a character that nobody sees ({_code_point(character)})"
    if label != label.strip():
        end = "begins" if label[0].isspace() else "ends"
        return f"{end} with a blank ({_code_point(label[0 if end == 'begins' else -1])})"
    if not label.strip("".join(JOINERS)):
        return "holds nothing that anybody sees"
    return ""


def without_unseen(label: str) -> str:
    """A text as a label should be: without what `label_problem` names; NFC.

    Bytes that are not UTF-8 stay.
    """
    refused = {"Cc", "Zl", "Zp"}
    kept = (c for c in label if unicodedata.category(c) not in refused and c not in UNSEEN)
    return unicodedata.normalize("NFC", "".join(kept)).strip()


def look_alikes(labels: Iterable[str]) -> list[str]:
    """A sentence for each group of labels that are one text but for what is hard to see.

    That is: they are equal after NFC, case folding and trimming of blanks.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        groups[_key(label)].append(label)
    return [
        f"The labels {' and '.join(_spelt(group))} look alike."
        for group in groups.values()
        if len(group) > 1
    ]


def refuse_twins(where: object, labels: Iterable[str], known: Iterable[str]) -> None:
    """Refuse labels of val or test that look like one of train and are another text.

    Args:
        where: the dataset, for the message.
        labels: that train has not.
        known: that train has.

    Raises:
        DatasetError: there is one; it shows the code points.
    """
    for label in sorted(labels):
        twin = next((other for other in sorted(known) if _key(other) == _key(label)), None)
        if twin is not None:
            here, there = _spelt([label, twin])
            raise DatasetError(
                f"{where}: the label {here} of val or test looks like {there} of train, and is "
                "another text.",
                f"Rename one as the other is written: {twin!a} in Python.",
            )


def _spelt(labels: list[str]) -> list[str]:
    """Labels with the code points in which they differ."""
    first, last = labels[0], labels[-1]
    return [f"{one!r} ({_difference(one, last if one == first else first)})" for one in labels]


def _difference(label: str, other: str) -> str:
    start, shorter = 0, min(len(label), len(other))
    while start < shorter and label[start] == other[start]:
        start += 1
    end = 0
    while end < shorter - start and label[-1 - end] == other[-1 - end]:
        end += 1
    return " ".join(map(_code_point, label[start : len(label) - end])) or "without it"


def _key(label: str) -> str:
    shown = "".join(c for c in label if c not in JOINERS and c not in UNSEEN)
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", shown).casefold())
    return " ".join(folded.split())


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"

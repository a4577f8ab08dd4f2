"""What is wrong with a dataset, as problems with a severity, and as sentences for people.

An `error` makes figures wrong or training useless: one picture under two labels, or in two splits;
a file that does not decode; a picture of nothing. A `warning` is for a person to know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from serve.contract.labels import look_alikes
from train.data.audit.near_duplicates import NearPair, groups_of
from train.data.folders.file_names import Misnamed, escaped, name_problem
from train.data.folders.notices import Notice, Reason, by_reason_and_class, sentence, severity_of
from train.data.images import LabelledImage

__all__ = [
    "IMBALANCE_LIMIT",
    "TINY_PX",
    "Finding",
    "file_findings",
    "files_of",
    "group_findings",
    "imbalance_finding",
    "name_findings",
    "notice_findings",
    "remark_findings",
    "summary",
]

IMBALANCE_LIMIT = 5.0  # largest class over smallest
RAISED_BY = "STILLROOM_MAX_MEGAPIXELS, STILLROOM_MAX_BODY_MIB"
TINY_PX = 16  # shorter side: less than a thumbnail

Kind = Literal[
    "imbalance",
    "look_alike",
    "misnamed",
    "unreadable",
    "not_read",
    "other_suffix",
    "outside",
    "too_few",
    "conflict",
    "leak",
    "duplicate",
    "near_duplicate",
    "constant",
    "overwritten",
    "few_levels",
    "too_large_to_serve",
    "tiny",
]
REMARKS: dict[Kind, str] = {
    "overwritten": "decodes, and looks overwritten in the middle: part of it is garbage",
    "few_levels": "has 16 bits and uses less than a tenth of their range",
    "too_large_to_serve": "is larger than the service takes by default",
}
ERRORS = frozenset(
    {
        "look_alike",
        "misnamed",
        "unreadable",
        "not_read",
        "other_suffix",
        "too_few",
        "conflict",
        "leak",
        "constant",
    }
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        kind: of problem.
        paths: of the files concerned; empty where it is the dataset's.
        text: one sentence.
        same: exact or near where pictures are the same; else empty.
    """

    kind: Kind
    paths: tuple[str, ...]
    text: str
    same: Literal["", "exact", "near"] = ""

    @property
    def severity(self) -> Literal["error", "warning"]:
        """Whether `--strict` fails for it."""
        return "error" if self.kind in ERRORS else "warning"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "paths": list(self.paths), "severity": self.severity}


def imbalance_finding(totals: dict[str, int]) -> list[Finding]:
    """One problem where the largest class has more than IMBALANCE_LIMIT times the smallest."""
    smallest, largest = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    if totals[largest] <= IMBALANCE_LIMIT * totals[smallest]:
        return []
    text = f"Imbalanced: {totals[largest]} images of {largest}, {totals[smallest]} of {smallest}."
    return [Finding("imbalance", (), text)]


def name_findings(labels: Iterable[str], misnamed: Iterable[Misnamed]) -> list[Finding]:
    """Labels that look alike, and files and folders whose names cannot be used."""
    alike = [Finding("look_alike", (), text) for text in look_alikes(labels)]
    return alike + [
        Finding(
            "misnamed",
            (escaped(path),),
            f"The name of {escaped(path)} {name_problem(path)}; images left out: {images}.",
        )
        for path, images in misnamed
    ]


def file_findings(
    photos: list[LabelledImage], flat: list[bool], unreadable: list[tuple[str, str]]
) -> list[Finding]:
    """Files that do not decode, show nothing, or are tiny.

    Args:
        photos: that decode.
        flat: of each, whether it shows nothing.
        unreadable: path and reason of the others.
    """
    bad = [
        Finding("unreadable", (path,), f"{path} does not decode: {why.rstrip('.')}.")
        for path, why in unreadable
    ]
    empty = [
        Finding("constant", (photo.path,), f"{photo.path} shows nothing: all of it is one colour.")
        for photo, is_empty in zip(photos, flat, strict=True)
        if is_empty
    ]
    tiny = [
        Finding("tiny", (p.path,), f"{p.path} is only {p.width} x {p.height} px.")
        for p in photos
        if min(p.width, p.height) < TINY_PX
    ]
    return bad + empty + tiny


def notice_findings(notices: Iterable[Notice]) -> list[Finding]:
    """What a walk passed over and a person may have meant: one problem a reason and class."""
    return [
        Finding(_kind_of(group[0].reason), tuple(one.path for one in group), sentence(group))
        for group in by_reason_and_class(notices)
        if severity_of(group[0].reason) != "note"
    ]


def files_of(problem: Mapping[str, Any]) -> int:
    """Files that a problem of audit.json stands for, where each file is wrong by itself; else 1."""
    return (
        len(problem["paths"]) if problem["kind"] in ("not_read", "other_suffix", "outside") else 1
    )


def _kind_of(reason: Reason) -> Kind:
    return reason if reason == "other_suffix" or reason == "outside" else "not_read"


def remark_findings(photos: list[LabelledImage], remarks: Iterable[Iterable[str]]) -> list[Finding]:
    """What `train.data.audit.remarks` found in files that decode.

    Args:
        photos: that decode.
        remarks: of each, kinds of REMARKS.
    """
    return [
        Finding(kind, (photo.path,), f"{photo.path} {text}.")
        for kind, text in REMARKS.items()
        for photo, found in zip(photos, remarks, strict=True)
        if kind in found
    ]


def group_findings(photos: list[LabelledImage], pairs: list[NearPair]) -> list[Finding]:
    """Conflicts, leaks and duplicates: one problem a group of images that are the same.

    Args:
        photos: with digest and split.
        pairs: near-duplicates by index of `photos`.
    """
    first: dict[str, int] = {}
    equal = [(first.setdefault(p.sha256, i), i) for i, p in enumerate(photos)]
    links = equal + [(pair.first, pair.second) for pair in pairs]
    return [
        problem
        for group in groups_of(len(photos), links)
        for problem in _problems_of_group([photos[i] for i in group])
    ]


def _problems_of_group(group: list[LabelledImage]) -> list[Finding]:
    exact = len({photo.sha256 for photo in group}) == 1
    same: Literal["exact", "near"] = "exact" if exact else "near"
    paths = tuple(photo.path for photo in group)
    labels = sorted({photo.label for photo in group})
    splits = sorted({photo.split for photo in group})
    others = "" if exact else f" (looks like {_listed(paths[1:])})"
    found = []
    if len(labels) > 1:
        text = f"{paths[0]}{others} is filed under {' and '.join(labels)}."
        found.append(Finding("conflict", paths, text, same))
    if len(splits) > 1:
        text = f"{paths[0]}{others} leaks: it is in {' and '.join(splits)}."
        found.append(Finding("leak", paths, text, same))
    if not found:
        words = "are the same file" if exact else "look the same"
        kind: Kind = "duplicate" if exact else "near_duplicate"
        found.append(Finding(kind, paths, f"{paths[0]} and {_listed(paths[1:])} {words}.", same))
    return found


def _listed(paths: tuple[str, ...], shown: int = 3) -> str:
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return ", ".join(paths[:shown]) + more


def summary(problems: list[Finding], *, stored_twice: int, near: int) -> list[str]:
    """Sentences a person should read before training: what is many is counted.

    Args:
        problems: all of them; what a walk passed over is said elsewhere, one sentence a reason.
        stored_twice: groups of equal files.
        near: near-duplicates beside their first.
    """
    counts = Counter(problem.kind for problem in problems)
    named = ("imbalance", "too_few", "look_alike", "misnamed")
    sentences = [p.text for p in problems if p.kind in named]
    sentences += [
        f"{count} {one if count == 1 else many}."
        for count, one, many in (
            (
                counts["unreadable"],
                "image does not decode and was left out",
                "images do not decode and were left out",
            ),
            (stored_twice, "image is stored more than once", "images are stored more than once"),
            (
                near,
                "image looks like another one: resized, compressed again or edited",
                "images look like other ones: resized, compressed again or edited",
            ),
            (
                counts["overwritten"],
                "JPEG file looks overwritten in the middle, though it decodes",
                "JPEG files look overwritten in the middle, though they decode",
            ),
            (
                counts["few_levels"],
                "16-bit image uses less than a tenth of its range: as 8 bits it is flat",
                "16-bit images use less than a tenth of their range: as 8 bits they are flat",
            ),
            (
                counts["too_large_to_serve"],
                f"image is larger than the service takes by default ({RAISED_BY} raise its limits)",
                f"images are larger than the service takes by default ({RAISED_BY} raise its "
                "limits)",
            ),
            (counts["constant"], "image is of one colour", "images are of one colour each"),
            (
                counts["tiny"],
                f"image has a side of less than {TINY_PX} px",
                f"images have a side of less than {TINY_PX} px",
            ),
        )
        if count
    ]
    return sentences + [p.text for p in problems if p.kind in ("conflict", "leak")]

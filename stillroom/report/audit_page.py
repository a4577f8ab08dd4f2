"""audit.html: what is in the folder of images and what is wrong with it, as pictures."""

from __future__ import annotations

import base64
import io
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.contract.errors import DatasetError, ImageError
from serve.contract.preprocess import NO_LIMITS, PreprocessSpec, decode
from stillroom.page.environment import page_environment
from stillroom.page.format import count, number
from stillroom.page.thumbnails import QUALITY, Thumbnails, spread
from train.data.audit.findings import files_of
from train.data.image_bytes import read_bytes
from train.data.images import LabelledImage
from train.data.split import SPLITS

__all__ = ["Group", "Kind", "write_audit_page"]

SHEET_PX = 96  # an image on a contact sheet
MAX_SHEET = 400  # images on all contact sheets together
PER_CLASS = 22
FOLDED_CLASSES = 20  # with more, contact sheets are folded
PICTURE_PX = 200  # longer side of a picture of a problem
MAX_GROUPS = 24  # of each kind that are shown as pictures
MAX_MEMBERS = 4  # pictures of a group
MAX_LINES = 60  # of files without a picture

KINDS = {  # in the order of the page: title, what it means and what to do
    "conflict": (
        "One picture under two labels",
        "At most one of the labels is right, and training would see both. Remove the wrong file.",
    ),
    "leak": (
        "One picture in two splits",
        "What was memorised would count as known. Remove the file from one of the splits.",
    ),
    "look_alike": (
        "Labels that look alike",
        "One class, most likely, under two names: put their images into one folder.",
    ),
    "misnamed": (
        "Names that cannot be used",
        "Their images were left out: no list could name them. Every other command refuses, and "
        "prints the line that renames them.",
    ),
    "unreadable": (
        "Files that do not decode",
        "They were left out. Repair or remove them.",
    ),
    "too_few": (
        "Classes with too few images",
        "Training refuses them: each class must be in train, val and test.",
    ),
    "not_read": (
        "Images that were not read",
        "They look as if they were meant. Convert, rename, move or mend them.",
    ),
    "other_suffix": (
        "Images named as something else",
        "They were read, for the content decides. Other programs go by the name: rename them.",
    ),
    "outside": (
        "Images outside of all class folders",
        "Nobody says what they show. Put them into the folder of their class, or remove them.",
    ),
    "constant": (
        "Pictures of nothing",
        "All of the picture is one colour: a failed shot or a failed export. Remove it.",
    ),
    "duplicate": (
        "Files stored more than once",
        "Equal bytes under one label; they were kept in one split. Copies count twice.",
    ),
    "near_duplicate": (
        "Pictures that look the same",
        "Resized, compressed again or edited; they count as different images. "
        "Keep the best one, unless they are meant to be there.",
    ),
    "overwritten": (
        "JPEG files that look overwritten",
        "Part of the picture is garbage, though the file decodes: a bad disk, card or copy. "
        "Fetch them again.",
    ),
    "few_levels": (
        "16-bit images that use little of their range",
        "Read as 8 bits they are nearly black or flat. Stretch them to the full range first.",
    ),
    "too_large_to_serve": (
        "Images that the service refuses by default",
        "They are trained on; whoever sends such an image is refused, unless the service is "
        "started with higher limits (docs/serving.md).",
    ),
    "tiny": (
        "Very small pictures",
        "They hold less detail than the smallest useful thumbnail.",
    ),
}
LISTED = frozenset({"too_few", "not_read", "other_suffix", "outside"})  # in words, without pictures
REASONS = {
    "format": "a format that is not read",
    "hidden_images": "a hidden folder of images",
    "dangling": "a link that leads nowhere",
    "denied": "cannot be opened",
    "outside": "outside of all class folders",
    "converted": "read as its converted copy",
    "cycle": "a link to a folder that it lies in",
    "again": "a linked folder that was read already",
    "copy": "a backup or unfinished copy",
    "companion": "a folder of another program",
    "hidden": "a hidden or system file",
    "special": "a pipe, socket or device",
    "other": "no image",
}
BRIEFLY = {
    "conflict": "under two labels",
    "leak": "in two splits",
    "unreadable": "not decoding",
    "too_few": "classes with too few images",
    "not_read": "not read",
    "other_suffix": "named as something else",
    "constant": "showing nothing",
    "look_alike": "labels that look alike",
    "misnamed": "names that cannot be used",
}


@dataclass(frozen=True)
class Group:
    """One problem with its pictures.

    Args:
        text: one sentence.
        reason: why the pictures are taken for the same; empty where it is one picture.
        members: (image, data: URI or None), the first of them.
        more: members that are not shown.
    """

    text: str
    reason: str
    members: list[tuple[LabelledImage, str | None]]
    more: int


@dataclass(frozen=True)
class Kind:
    """All problems of one kind.

    Args:
        name: as audit.json says it.
        severity: error or warning.
        title: for people.
        advice: what it means and what to do.
        total: problems of the kind.
        groups: with pictures, the first of them.
        lines: of files that cannot be shown.
    """

    name: str
    severity: str
    title: str
    advice: str
    total: int
    groups: list[Group]
    lines: list[str]

    @property
    def is_error(self) -> bool:
        """Whether `--strict` fails for it."""
        return self.severity == "error"


def write_audit_page(
    root: Path, photos: list[LabelledImage], audit: dict[str, Any], out: Path
) -> None:
    """Write the page of an audit: one file that opens anywhere, equal for equal images.

    Args:
        root: folder that the paths of the images are relative to.
        photos: with digest and split, as in index.csv.
        audit: as in audit.json.
        out: the file to write.
    """
    thumbnails = Thumbnails(root, PreprocessSpec(SHEET_PX, 1.0), SHEET_PX)
    totals = {split: sum(audit["splits"][split].values()) for split in SPLITS}
    kinds = _kinds(root, photos, audit)
    text = (
        page_environment()
        .get_template("audit.html.j2")
        .render(
            audit=audit,
            state=_state(audit),
            headline=_headline(audit, kinds),
            kinds=kinds,
            totals=totals,
            rows=_rows(audit),
            sheets=_sheets(photos, audit["labels"], thumbnails),
            folded=len(audit["labels"]) > FOLDED_CLASSES,
            tiles=_tiles(audit, totals),
            splits=SPLITS,
            passed_over=_passed_over(audit),
        )
    )
    out.write_text(text, encoding="utf-8")


def _state(audit: dict[str, Any]) -> str:
    severities = {problem["severity"] for problem in audit["problems"]}
    return (
        "failed"
        if "error" in severities
        else "inconclusive"
        if "warning" in severities
        else "passed"
    )


def _headline(audit: dict[str, Any], kinds: list[Kind]) -> str:
    images = f"{count(audit['photos'])} images in {count(len(audit['labels']))} classes"
    files = Counter({kind.name: 0 for kind in kinds if kind.is_error})
    for problem in audit["problems"]:
        if problem["severity"] == "error":
            files[problem["kind"]] += files_of(problem)
    errors = [f"{count(number)} {BRIEFLY[name]}" for name, number in files.items()]
    if errors:
        return f"{images}. To be put right before training: {', '.join(errors)}."
    if audit["problems"]:
        return f"{images}. Nothing is wrong that would spoil figures; some things are worth a look."
    return f"{images}: every file decodes, no picture is there twice, and no class is rare."


def _tiles(audit: dict[str, Any], totals: dict[str, int]) -> list[tuple[str, str, str]]:
    severities = [problem["severity"] for problem in audit["problems"]]
    sizes = audit["sizes_px"]
    middle = sizes["quantiles"].index(50)
    side = count(sizes["shorter_side"][middle])
    return [
        ("images", count(audit["photos"]), f"{count(len(audit['labels']))} classes"),
        ("train", count(totals["train"]), f"val {count(totals['val'])}, test {totals['test']}"),
        ("imbalance", f"{number(audit['imbalance'])} ×", "largest over smallest class"),
        ("shorter side", f"{side} px", "median of the images"),
        (
            "problems",
            count(severities.count("error")),
            f"and {count(severities.count('warning'))} warnings",
        ),
    ]


def _rows(audit: dict[str, Any]) -> list[dict[str, Any]]:
    """Classes with their counts, and the widths of the bars in percent of the largest class."""
    counts = {
        label: {split: audit["splits"][split][label] for split in SPLITS}
        for label in audit["labels"]
    }
    largest = max(sum(one.values()) for one in counts.values())
    return [
        {
            "label": label,
            "counts": one,
            "total": sum(one.values()),
            "shares": {split: 100 * one[split] / largest for split in SPLITS},
        }
        for label, one in counts.items()
    ]


def _passed_over(audit: dict[str, Any]) -> list[dict[str, Any]]:
    """Counts of what was not read, a row for each reason and class."""
    return [
        {
            "why": REASONS[one["reason"]],
            "class": one["class"],
            "severity": one["severity"],
            "count": one["count"],
            "what": ", ".join(_counted(what, n, one["count"]) for what, n in one["what"].items()),
            "first": one["paths"][0],
        }
        for one in audit["passed_over"]
    ]


def _counted(what: str, part: int, whole: int) -> str:
    return what if part == whole else f"{what} {part}"


def _sheets(
    photos: list[LabelledImage], labels: list[str], thumbnails: Thumbnails
) -> list[tuple[str, int, list[tuple[str, str | None]]]]:
    """Of each class its name, its size and images evenly spread over it."""
    by_label: dict[str, list[LabelledImage]] = defaultdict(list)
    for photo in photos:
        by_label[photo.label].append(photo)
    per_class = max(1, min(PER_CLASS, MAX_SHEET // len(labels)))
    return [
        (
            label,
            len(by_label[label]),
            [(photo.path, thumbnails.of(photo)) for photo in spread(by_label[label], per_class)],
        )
        for label in labels[:MAX_SHEET]
    ]


def _kinds(root: Path, photos: list[LabelledImage], audit: dict[str, Any]) -> list[Kind]:
    by_path = {photo.path: photo for photo in photos}
    found = []
    for name, (title, advice) in KINDS.items():
        problems = [problem for problem in audit["problems"] if problem["kind"] == name]
        if not problems:
            continue
        first = {id(p): p["paths"][:1] for p in problems}
        seen = [p for p in problems if name not in LISTED and by_path.keys() & first[id(p)]]
        lines = [problem["text"] for problem in problems if problem not in seen]
        groups = [_group(root, by_path, problem, audit) for problem in seen[:MAX_GROUPS]]
        severity = problems[0]["severity"]
        found.append(Kind(name, severity, title, advice, len(problems), groups, lines[:MAX_LINES]))
    return found


def _group(
    root: Path, by_path: dict[str, LabelledImage], problem: dict[str, Any], audit: dict[str, Any]
) -> Group:
    members = [by_path[path] for path in problem["paths"]]
    shown = _varied(members)
    return Group(
        text=problem["text"],
        reason=_reason(problem, audit),
        members=[(photo, _picture(root, photo)) for photo in shown],
        more=len(members) - len(shown),
    )


def _varied(members: list[LabelledImage]) -> list[LabelledImage]:
    """A few members: first one of each label and split, for that is where they disagree."""
    first: dict[tuple[str, str], LabelledImage] = {}
    for photo in members:
        first.setdefault((photo.label, photo.split), photo)
    chosen = list(first.values())
    return (chosen + [photo for photo in members if photo not in chosen])[:MAX_MEMBERS]


def _reason(problem: dict[str, Any], audit: dict[str, Any]) -> str:
    if problem["same"] == "exact":
        return "The same bytes."
    if not problem["same"]:
        return ""
    paths = set(problem["paths"])
    pairs = [pair for pair in audit["near_duplicates"] if paths.issuperset(pair["paths"])]
    distance = max(pair["distance"] for pair in pairs)
    alike = min(pair["similarity"] for pair in pairs)
    return f"Hashes differ in {distance} of 64 bits, small pictures correlate by {alike:.3f}."


def _picture(root: Path, photo: LabelledImage) -> str | None:
    """The whole image, small, as a data: URI; None where it cannot be read any more."""
    try:
        image = decode(read_bytes(root / photo.path), limits=NO_LIMITS)
    except (OSError, DatasetError, ImageError):
        return None
    image.thumbnail((PICTURE_PX, PICTURE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

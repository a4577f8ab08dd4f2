"""What is in the folder, and what is wrong with it. A file is decoded once, and when it changes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serve.contract.digest import canonical_json
from serve.contract.errors import DatasetError
from train.data.audit.cache import FileFacts
from train.data.audit.close_look import close_looks
from train.data.audit.file_facts import read_facts
from train.data.audit.findings import (
    IMBALANCE_LIMIT,
    Finding,
    file_findings,
    group_findings,
    imbalance_finding,
    name_findings,
    notice_findings,
    remark_findings,
    summary,
)
from train.data.audit.near_duplicates import (
    SIDE_PX,
    NearPair,
    groups_of,
    is_flat,
    near_pairs,
    spanning_pairs,
)
from train.data.folder import Listing, list_images
from train.data.folders.file_names import Misnamed
from train.data.folders.notices import Notice, counted, sentences
from train.data.images import LabelledImage, dataset_digest, labels_of, write_index
from train.data.own_images import limits_of
from train.data.split import SPLITS, split_images, write_lists
from train.options import DataOptions

__all__ = [
    "IMBALANCE_LIMIT",
    "SCHEMA_VERSION",
    "AuditResult",
    "audit_images",
    "read_images",
    "refuse_unreadable",
]

SCHEMA_VERSION = "1.0"
SHOWN = 5  # file names in a message
QUANTILES = [0, 5, 50, 95, 100]  # in percent

Unreadable = tuple[str, str]  # path, why


@dataclass(frozen=True)
class AuditResult:
    """What the pictures say.

    Args:
        unreadable: path and reason of files that do not decode.
        flat: of each image that decodes, whether it shows nothing.
        near: near-duplicates by index of those images, enough to join every group.
        too_few: of each class that cannot be in every split, why.
        left_out: whether training does without those that do not decode.
        misnamed: files and folders that were left out for their names.
        remarks: of each image that decodes, what else a person should look at.
    """

    unreadable: list[Unreadable]
    flat: list[bool]
    near: list[NearPair]
    too_few: list[str]
    left_out: bool
    misnamed: Sequence[Misnamed]
    remarks: Sequence[Sequence[str]]


def audit_images(
    root: Path,
    options: DataOptions,
    *,
    seed: int,
    out: Path,
    photos: Listing | list[LabelledImage] | None = None,
    misnamed: Sequence[Misnamed] = (),
) -> dict[str, Any]:
    """Audit and split images.

    Writes audit.json, index.csv, train.csv, val.csv and test.csv into `out`. Files that do not
    decode are findings, and not in the index; `refuse_unreadable` is what training asks.

    Args:
        root: folder that the paths of the images are relative to.
        options: how to split.
        seed: of the split.
        out: existing folder.
        photos: as listed, perhaps with what was passed over; None finds those of `root`.
        misnamed: files and folders that were left out for their names.

    Returns:
        The audit, as in audit.json.

    Raises:
        DatasetError: the folder cannot be used.
    """
    listing = Listing(photos) if isinstance(photos, list) else photos or list_images(root, options)
    facts = read_facts(root, listing.photos, limits_of(options))
    readable, unreadable = _divide(listing.photos, facts)
    unreadable = [(path, _with_place(why, listing.places.get(path))) for path, why in unreadable]
    if not readable:
        raise DatasetError(
            f"None of the {len(listing.photos)} images in {root} decodes, first "
            f"{_named(unreadable[:1])}.",
            "Name a folder of JPEG, PNG or WebP images.",
        )
    thumbnails = _thumbnails(facts)
    near = _near(root, readable, thumbnails)
    groups = _groups(readable, near) if options.near_duplicates == "together" else None
    too_few = [
        f"No image of the class {label!r} decodes."
        for label in sorted(set(labels_of(listing.photos)) - set(labels_of(readable)))
    ]
    try:
        divided = _split(readable, options, seed, groups)
    except DatasetError as error:
        if not unreadable:
            raise
        too_few.append(error.message)
        divided = [replace(photo, split=photo.split or "train") for photo in readable]
    left_out = options.unreadable == "skip"
    flat = is_flat(thumbnails).tolist()
    remarks = [one.remarks.split() for one in facts if not one.problem]
    findings = AuditResult(unreadable, flat, near, too_few, left_out, misnamed, remarks)
    audit = describe(divided, findings, listing)
    write_index(out / "index.csv", divided)
    write_lists(out, divided)
    (out / "audit.json").write_bytes(canonical_json(audit))
    return audit


def refuse_unreadable(data: Path, options: DataOptions) -> None:
    """Refuse to train where files do not decode and nobody said to leave them out.

    Args:
        data: folder with audit.json.
        options: what becomes of such files.

    Raises:
        DatasetError: there are some, or too few others; it names the page that shows them.
    """
    audit = json.loads((data / "audit.json").read_bytes())
    bad = [(one["path"], one["why"]) for one in audit["unreadable"]]
    if bad and options.unreadable == "error":
        raise DatasetError(
            f"{len(bad)} of {audit['photos'] + len(bad)} images do not decode: {_named(bad)}.",
            f"See {data / 'audit.html'}. Repair or remove them, or leave them out with "
            "data.unreadable=skip.",
        )
    if few := [one["text"] for one in audit["problems"] if one["kind"] == "too_few"]:
        raise DatasetError(
            " ".join(few),
            f"See {data / 'audit.html'}. Repair the files, add others, or remove the class.",
        )


def read_images(
    root: Path, photos: list[LabelledImage]
) -> tuple[list[LabelledImage], list[Unreadable]]:
    """Read and decode every file that the cache does not know: digest and upright size.

    Returns:
        The images that decode, and (path, reason) of those that do not; both in order.
    """
    return _divide(photos, read_facts(root, photos))


def describe(
    photos: list[LabelledImage], findings: AuditResult, listing: Listing
) -> dict[str, Any]:
    """Counts, sizes, duplicates and problems of split images, as JSON."""
    notices = listing.notices
    labels = labels_of(photos)
    counts = Counter((photo.label, photo.split) for photo in photos)
    totals = {label: sum(counts[label, split] for split in SPLITS) for label in labels}
    equal = _groups_of_equal_files(photos)
    problems = [
        *imbalance_finding(totals),
        *(Finding("too_few", (), text) for text in findings.too_few),
        *name_findings(labels, findings.misnamed),
        *file_findings(photos, findings.flat, findings.unreadable),
        *notice_findings(notices),
        *remark_findings(photos, findings.remarks),
        *group_findings(photos, findings.near),
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset_digest": dataset_digest(photos),
        "labels": list(labels),
        "photos": len(photos),
        "splits": {split: {label: counts[label, split] for label in labels} for split in SPLITS},
        "imbalance": round(max(totals.values()) / min(totals.values()), 3),
        "sizes_px": _sizes(photos),
        "aspects": _aspects(photos),
        "unreadable": [{"path": path, "why": why} for path, why in findings.unreadable],
        "duplicates": [[photo.path for photo in group] for group in equal],
        "near_duplicates": [
            {
                "paths": [photos[pair.first].path, photos[pair.second].path],
                "distance": pair.distance,
                "similarity": pair.similarity,
            }
            for pair in findings.near
        ],
        "conflicts": _paths(problems, "conflict"),
        "leaks": _paths(problems, "leak"),
        "constant": [path for paths in _paths(problems, "constant") for path in paths],
        "tiny": [path for paths in _paths(problems, "tiny") for path in paths],
        "problems": [problem.to_dict() for problem in problems],
        "findings": [
            *sentences(notices, "error", "warning"),
            *summary(problems, stored_twice=len(equal), near=len(findings.near)),
            *_refused(findings),
        ],
        "passed_over": [one for one in counted(notices) if one["reason"] != "other_suffix"],
        "remarks": [*listing.remarks, *_passed_over(notices)],
    }


def _divide(
    photos: list[LabelledImage], facts: Sequence[FileFacts]
) -> tuple[list[LabelledImage], list[Unreadable]]:
    both = list(zip(photos, facts, strict=True))
    good = [
        replace(photo, sha256=one.sha256, width=one.width, height=one.height)
        for photo, one in both
        if not one.problem
    ]
    return good, [(photo.path, one.problem) for photo, one in both if one.problem]


def _split(
    photos: list[LabelledImage], options: DataOptions, seed: int, groups: dict[str, str] | None
) -> list[LabelledImage]:
    return split_images(
        photos,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        seed=seed,
        groups=groups,
    )


def _named(unreadable: Sequence[Unreadable]) -> str:
    names = "; ".join(f"{path}: {why.rstrip('.')}" for path, why in unreadable[:SHOWN])
    return f"{names} and {len(unreadable) - SHOWN} more" if len(unreadable) > SHOWN else names


def _refused(findings: AuditResult) -> list[str]:
    if findings.left_out or not findings.unreadable:
        return []
    return [
        "Training refuses files that do not decode until they are repaired, removed or left out "
        f"with data.unreadable=skip: {_named(findings.unreadable)}."
    ]


def _with_place(why: str, place: str | None) -> str:
    return f"{why.rstrip('.')} ({place})." if place else why


def _passed_over(notices: Iterable[Notice]) -> list[str]:
    return [f"Passed over: {text}" for text in sentences(notices, "note")]


def _thumbnails(facts: Iterable[FileFacts]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(N, SIDE_PX, SIDE_PX, 3) of the files that decode."""
    data = b"".join(one.thumbnail for one in facts if not one.problem)
    return np.frombuffer(data, np.uint8).reshape(-1, SIDE_PX, SIDE_PX, 3)


def _near(
    root: Path, photos: list[LabelledImage], thumbnails: np.ndarray[Any, np.dtype[np.uint8]]
) -> list[NearPair]:
    """Near-duplicates by index of `photos`; of equal files the first alone is compared."""
    first = np.array(sorted({p.sha256: i for i, p in reversed(list(enumerate(photos)))}.values()))
    pairs = [
        NearPair(pair.distance, int(first[pair.first]), int(first[pair.second]), pair.similarity)
        for pair in near_pairs(thumbnails[first], close_looks(root, [photos[i] for i in first]))
    ]
    return spanning_pairs(len(photos), pairs)


def _groups(photos: list[LabelledImage], near: list[NearPair]) -> dict[str, str]:
    """sha256 -> the smallest sha256 of its group of near-duplicates."""
    groups = groups_of(len(photos), [(pair.first, pair.second) for pair in near])
    return {
        photos[i].sha256: min(photos[k].sha256 for k in group) for group in groups for i in group
    }


def _groups_of_equal_files(photos: Iterable[LabelledImage]) -> list[list[LabelledImage]]:
    by_content: dict[str, list[LabelledImage]] = defaultdict(list)
    for photo in photos:
        by_content[photo.sha256].append(photo)
    return [group for group in by_content.values() if len(group) > 1]


def _paths(problems: Iterable[Finding], kind: str) -> list[list[str]]:
    return [list(problem.paths) for problem in problems if problem.kind == kind]


def _sizes(photos: list[LabelledImage]) -> dict[str, list[int]]:
    sides = np.array([sorted((photo.width, photo.height)) for photo in photos])
    quantiles = np.percentile(sides, QUANTILES, axis=0, method="nearest").astype(int)
    return {
        "quantiles": QUANTILES,
        "shorter_side": quantiles[:, 0].tolist(),
        "longer_side": quantiles[:, 1].tolist(),
    }


def _aspects(photos: list[LabelledImage]) -> dict[str, list[Any]]:
    aspects = np.array([photo.width / photo.height for photo in photos])
    values = np.percentile(aspects, QUANTILES, method="nearest").round(3)
    return {"quantiles": QUANTILES, "width_over_height": values.tolist()}

"""What an ablation found: scores of each arm, and the differences that it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.ablation.cells import ARMS, DONE, RESIZED, STUDENT, cell_folder
from stillroom.ablation.paired import mean_interval, paired_difference
from stillroom.page.format import ms, percent, points, times
from train.evaluation import read_predictions

__all__ = ["ArmRow", "Contrast", "contrasts_of", "read_rows", "sentences_of"]

PREDICTIONS = "predictions.csv"
PAIRS = (
    ("distilled", "labels", "distillation"),
    ("fixres", "labels", "FixRes"),
    ("both", "labels", "distillation and FixRes"),
    ("both", "distilled", "FixRes after distillation"),
    ("both", "fixres", "distillation before FixRes"),
    ("fixres", "fixres-resized", "FixRes, beyond only testing at its size"),
    ("both", "both-resized", "FixRes after distillation, beyond only testing at its size"),
    ("both", "teacher", "distillation and FixRes, against the teacher"),
)


@dataclass(frozen=True)
class ArmRow:
    """One model of the table.

    Args:
        key: of an arm; "<arm>-resized" before FixRes at its size; or "teacher".
        title: for people.
        right: (seeds, images) whether each test image is answered right.
        val_top1: mean over the seeds; None where val was not asked.
        epochs: of all phases together; 0 for the teacher.
        steps: optimiser steps; 0 for the teacher.
        test_px: side that it is tested at.
        latency: median_ms, q1_ms, q3_ms and n of one image on one CPU thread.
    """

    key: str
    title: str
    right: NDArray[np.bool_]
    val_top1: float | None
    epochs: int
    steps: int
    test_px: int
    latency: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the scores, with the interval of their mean over seeds and images."""
        each = self.right.mean(1)
        low, high = mean_interval(self.right)
        return {
            "key": self.key,
            "title": self.title,
            "test_top1": float(each.mean()),
            "test_top1_low": low,
            "test_top1_high": high,
            "test_top1_sd": float(each.std(ddof=1)) if len(each) > 1 else None,
            "test_top1_of_seeds": each.tolist(),
            "val_top1": self.val_top1,
            "epochs": self.epochs,
            "steps": self.steps,
            "test_px": self.test_px,
            "latency": dict(self.latency),
        }


@dataclass(frozen=True)
class Contrast:
    """One arm minus another, on the same seeds and test images.

    Args:
        title: what was added.
        first: key of the arm that has it.
        second: key of the arm that has it not.
        difference: of mean top-1, a fraction.
        low: of its 95 % interval; seeds and images both drawn with replacement.
        high: likewise.
        p: exact two-sided McNemar p over all pairs of seed and image.
    """

    title: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float

    @property
    def reading(self) -> str:
        """better, worse or no difference shown: as the interval says, which knows of the seeds."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference shown"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "reading": self.reading}


def read_rows(
    out: Path, teacher: Path, seeds: int, latency: Mapping[str, Mapping[str, float]]
) -> list[ArmRow]:
    """The teacher, the four arms, and what FixRes began with.

    Args:
        out: of the ablation.
        teacher: folder of its checkpoint.
        seeds: trainings of each arm.
        latency: of "teacher", "student" and "fixres".
    """
    rows = [_row_of("teacher", "teacher", [teacher], latency["teacher"])]
    for arm in ARMS:
        folders = [cell_folder(out, arm.key, number) for number in range(seeds)]
        times = latency["fixres" if arm.fixes else "student"]
        rows.append(_row_of(arm.key, arm.title, folders, times))
        if arm.fixes:
            before = "+ distillation" if arm.distils else "labels only"
            title = f"{before}, only tested at the FixRes size"
            rows.append(_row_of(f"{arm.key}-resized", title, folders, times))
    return rows


def contrasts_of(rows: Sequence[ArmRow]) -> list[Contrast]:
    """The differences that an ablation is for."""
    right = {row.key: row.right for row in rows}
    seeds = len(right["both"])
    right["teacher"] = np.repeat(right["teacher"], seeds, axis=0)
    found = []
    for first, second, title in PAIRS:
        gap = paired_difference(right[second], right[first])
        found.append(Contrast(title, first, second, gap.mean, gap.low, gap.high, gap.p))
    return found


def sentences_of(rows: Sequence[ArmRow], contrasts: Sequence[Contrast]) -> list[str]:
    """The verdict, for people."""
    by_key = {row.key: row for row in rows}
    both, teacher = by_key["both"], by_key["teacher"]
    gain = next(c for c in contrasts if (c.first, c.second) == ("both", "labels"))
    behind = next(c for c in contrasts if c.second == "teacher")
    seeds, images = both.right.shape
    faster = teacher.latency["median_ms"] / both.latency["median_ms"]
    sentences = [
        f"Distillation and FixRes together: {percent(both.right.mean())} of {images} test "
        f"images against {percent(by_key['labels'].right.mean())} from labels alone, "
        f"{_described(gain)}: {gain.reading}.",
        f"Against the teacher's {percent(teacher.right.mean())} that is {_described(behind)}, at "
        f"{times(faster)} its speed on one CPU thread ({ms(both.latency['median_ms'])} against "
        f"{ms(teacher.latency['median_ms'])}).",
    ]
    if seeds < 3:
        many = "one seed tells" if seeds == 1 else "two seeds tell"
        sentences.append(f"{many.capitalize()} little of what another training would give.")
    return sentences


def _described(contrast: Contrast) -> str:
    low, high = points(contrast.low), points(contrast.high)
    return f"{points(contrast.difference)} points ({low} to {high})"


def _row_of(key: str, title: str, folders: Sequence[Path], latency: Mapping[str, float]) -> ArmRow:
    resized = key.endswith("-resized")
    name = RESIZED if resized else PREDICTIONS
    answered = [read_predictions(folder / name) for folder in folders]
    tests = [predictions.of_split("test") for predictions in answered]
    vals = [predictions.of_split("val") for predictions in answered]
    tops = [float((val.predicted == val.targets).mean()) for val in vals if val.photos]
    sources = [folder / STUDENT if resized else folder for folder in folders]
    epochs, steps = (0, 0) if key == "teacher" else _budget(sources[0])
    card = json.loads((folders[0] / "checkpoint.json").read_bytes())
    return ArmRow(
        key,
        title,
        np.stack([test.predicted == test.targets for test in tests]),
        float(np.mean(tops)) if tops else None,
        epochs,
        steps,
        card["preprocess"]["size_px"],
        latency,
    )


def _budget(folder: Path) -> tuple[int, int]:
    """Epochs and steps of a training, with those of the student that it began with."""
    epochs = len((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    steps = int(json.loads((folder / DONE).read_bytes())["steps"])
    if (folder / STUDENT).is_dir():
        before = _budget(folder / STUDENT)
        epochs, steps = epochs + before[0], steps + before[1]
    return epochs, steps

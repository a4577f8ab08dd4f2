"""The models of a run, as the table compares them: size, cost, latency and scores."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stillroom.run.folder import RunFolder

__all__ = ["Latency", "ModelRow", "Score", "read_json", "read_models"]

TITLES = {
    "teacher": "Teacher",
    "baseline": "Student without teacher",
    "student": "Student, distilled",
    "fixres": "Student, FixRes",
}
NAMES = {
    "teacher": "teacher",
    "baseline": "student without a teacher",
    "student": "student",
    "fixres": "student, fine-tuned with FixRes,",
}


@dataclass(frozen=True)
class Score:
    """Top-1 of one split with its 95 % Wilson interval; fractions in [0, 1]."""

    n: int
    hits: int
    top1: float
    low: float
    high: float

    @classmethod
    def of(cls, evaluation: dict[str, Any]) -> Score:
        """From one split of evaluation.json."""
        keys = ("n", "hits", "top1", "top1_low", "top1_high")
        return cls(*(evaluation[key] for key in keys))


@dataclass(frozen=True)
class Latency:
    """Time of one image on one CPU thread: median and quartiles of n runs."""

    median_ms: float
    q1_ms: float
    q3_ms: float
    n: int


@dataclass(frozen=True)
class ModelRow:
    """One row of the table.

    Args:
        key: the stage's folder, or "resized" for the student tested at the FixRes size.
        title: for people: by what was kept of the stages that made it.
        arch: timm name.
        parameters: number of weights.
        macs: multiply-adds of one image at the test size.
        weights_bytes: size of the checkpoint.
        train_px: side of the training views.
        test_px: side of the evaluated square.
        latency: None where it was not measured.
        latency_as: title of the model whose latency stands for this one's; empty for its own.
        val: score that choices were made by.
        test: score to report.
        exported: whether the artifact holds this model.
        as_student: whether this has the student's weights, for FixRes was not kept.
        is_distilled: False where the student learnt from labels alone, with a kd_weight of 0.
        name: the title within a sentence.
    """

    key: str
    title: str
    arch: str
    parameters: int
    macs: int
    weights_bytes: int
    train_px: int
    test_px: int
    latency: Latency | None
    latency_as: str
    val: Score
    test: Score
    exported: bool
    as_student: bool = False
    is_distilled: bool = True
    name: str = ""


def read_models(run: RunFolder, source: str) -> tuple[ModelRow, ...]:
    """Every model of a run, the teacher first; `source` names the exported one."""
    latencies = read_json(run.stage("latency") / "latency.json")
    found = {
        key: _read_model(run.stage(key), key, latencies.get(key), exported=key == source)
        for key in TITLES
    }
    student, fixres = found["student"], found["fixres"]
    found["baseline"] = replace(
        found["baseline"], latency=student.latency, latency_as="the student"
    )
    made = read_json(run.stage("fixres") / "fixres.json")
    resized = made["resized_only"]
    if made["kept"] == "student":
        found["fixres"] = fixres = _not_kept(fixres)
    if _is_undistilled(run):
        title = "Student, not distilled: kd_weight 0"
        found["student"] = student = replace(student, title=title, is_distilled=False)
    tested_only = replace(
        student,
        key="resized",
        title="Student, only tested at the FixRes size",
        macs=fixres.macs,
        test_px=fixres.test_px,
        latency=fixres.latency,
        latency_as="FixRes",
        val=Score.of(resized["val"]),
        test=Score.of(resized["test"]),
        exported=False,
    )
    order = (found["teacher"], found["baseline"], student, tested_only, fixres)
    return tuple(order)


def _not_kept(fixres: ModelRow) -> ModelRow:
    """What FixRes leaves where its fine-tuning was not better on val."""
    at = f"at {fixres.test_px} px"
    return replace(
        fixres,
        title=f"Student {at}; FixRes was not kept",
        name=f"student, tested {at} (FixRes was not better on val and was not kept),",
        as_student=True,
    )


def _is_undistilled(run: RunFolder) -> bool:
    options = (run.manifest("student") or {}).get("options", {})
    return bool(options.get("distil", {}).get("kd_weight") == 0)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value


def _read_model(
    folder: Path, key: str, latency: dict[str, Any] | None, *, exported: bool
) -> ModelRow:
    card = read_json(folder / "checkpoint.json")
    scores = read_json(folder / "evaluation.json")
    return ModelRow(
        key=key,
        title=TITLES[key],
        name=NAMES[key],
        arch=card["arch"],
        parameters=card["parameters"],
        macs=card["flops"],
        weights_bytes=(folder / "checkpoint.safetensors").stat().st_size,
        train_px=card["train_size_px"],
        test_px=card["preprocess"]["size_px"],
        latency=Latency(**latency) if latency else None,
        latency_as="",
        val=Score.of(scores["val"]),
        test=Score.of(scores["test"]),
        exported=exported,
    )

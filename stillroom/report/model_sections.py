"""What the report shows of the models: the table, the trainings, and the mistakes."""

from __future__ import annotations

import math
from typing import Any

from stillroom.page.charts.confusion import MAX_CLASSES, draw_confusion
from stillroom.page.thumbnails import Thumbnails
from stillroom.report.charts.curves import draw_curves
from stillroom.report.charts.history import read_history
from stillroom.report.charts.intervals import axis_of, draw_axis, draw_row
from stillroom.report.charts.reliability import draw_reliability
from stillroom.report.comparison import Comparison
from stillroom.report.facts import Facts
from stillroom.report.mistakes import confident_mistakes, confused_pairs, reliability_bins
from stillroom.run.folder import RunFolder

__all__ = ["mistakes_section", "models_section", "training_section"]

TRAINED = ("teacher", "baseline", "student", "fixres")
MAX_MISTAKES = 24
MAX_PAIRS = 15


def models_section(facts: Facts, comparisons: tuple[Comparison, ...]) -> dict[str, Any]:
    """The table of models with their intervals, and the paired differences."""
    axis = axis_of(facts.models)
    return {
        "axis": draw_axis(axis),
        "rows": [(model, draw_row(axis, model)) for model in facts.models],
        "comparisons": comparisons,
        "onnx_bytes": facts.manifest["metrics"]["model_bytes"],
        "same_size_px": _same_size_px(facts),
    }


def training_section(run: RunFolder, facts: Facts) -> dict[str, Any]:
    """A drawing for each training; the top-1 axes are the same."""
    histories = [
        read_history(run.stage(key) / "metrics.jsonl", facts.model(key).title) for key in TRAINED
    ]
    values = [value for one in histories for value in (*one.train_top1, *one.val_top1)]
    lowest = min((value for value in values if not math.isnan(value)), default=0.0)
    low = math.floor(lowest * 10) / 10 if lowest < 1 else 0.9
    return {
        "panels": [
            (history, draw_curves(history, name=f"curves-{key}", top1_low=low))
            for key, history in zip(TRAINED, histories, strict=True)
        ],
        "teaching": _teaching(run),
    }


def _teaching(run: RunFolder) -> dict[str, Any] | None:
    """How far the student answers as its teachers do; None where the run is older than that."""
    manifest = run.manifest("student") or {}
    if "distillation" not in manifest:
        return None
    history = read_history(run.stage("student") / "metrics.jsonl", "student")
    found: dict[str, Any] = manifest["distillation"]
    return {**found, "first": history.val_agreement[0], "last": history.val_agreement[-1]}


def mistakes_section(facts: Facts, thumbnails: Thumbnails) -> dict[str, Any]:
    """Where the exported model errs on the test split."""
    predictions, scores = facts.predictions[facts.source], facts.scores
    labels = list(predictions.labels)
    confusion = scores["confusion"]
    mistakes = confident_mistakes(predictions, MAX_MISTAKES)
    return {
        "matrix": draw_confusion(confusion, labels) if len(labels) <= MAX_CLASSES else None,
        "pairs": confused_pairs(confusion, labels, MAX_PAIRS),
        "classes": sorted(scores["classes"], key=lambda row: (row["f1"], row["label"])),
        "mistakes": [(mistake, thumbnails.of(mistake.photo)) for mistake in mistakes],
        "wrong": scores["n"] - scores["hits"],
        "n": scores["n"],
        "ece": scores["ece"],
        "top5": scores.get("top5"),
        "reliability": draw_reliability(reliability_bins(predictions), name="reliability"),
    }


def _same_size_px(facts: Facts) -> int | None:
    """The test size, where FixRes did not change it; then its two rows differ by training only."""
    student, fixres = facts.model("student"), facts.model("fixres")
    same = student.test_px == fixres.test_px and not fixres.as_student
    return fixres.test_px if same else None

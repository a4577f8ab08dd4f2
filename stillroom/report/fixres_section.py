"""What FixRes did beside no change and beside only testing larger, and the proof of what froze."""

from __future__ import annotations

from typing import Any

from compress.fixres_stage import RESIZED
from stillroom.page.format import count, percent, points
from stillroom.report.charts.intervals import axis_of, draw_axis, draw_row
from stillroom.report.facts import Facts
from stillroom.report.models import read_json
from stillroom.report.paired import Paired, pair
from stillroom.run.folder import RunFolder
from train.evaluation import Predictions, read_predictions

__all__ = ["fixres_section"]

ROWS = (
    ("student", "No change"),
    ("resized", "Only tested at the new size"),
    ("fixres", "FixRes"),
)


def fixres_section(run: RunFolder, facts: Facts) -> dict[str, Any]:
    """Three rows, the paired differences on val and on test, and the proof."""
    kept = not facts.model("fixres").as_student
    last = "FixRes" if kept else "FixRes, not kept: as above"
    models = [(facts.model(key), last if key == "fixres" else title) for key, title in ROWS]
    axis = axis_of(model for model, _ in models)
    answers = _answers(run)
    paired = {
        (other, split): pair(answers["fixres"].of_split(split), answers[other].of_split(split))
        for other in ("resized", "student")
        for split in ("val", "test")
    }
    made = read_json(run.stage("fixres") / "fixres.json")
    return {
        "axis": draw_axis(axis),
        "rows": [(model, title, draw_row(axis, model)) for model, title in models],
        "paired": [
            (
                f"{'FixRes' if kept else 'FixRes, not kept'} − {title.lower()}",
                split,
                paired[key, split],
            )
            for key, title in reversed(ROWS[:2])
            for split in ("val", "test")
        ],
        "made": made,
        "sentence": _sentence(made, facts, paired["resized", "val"], paired["resized", "test"]),
    }


def _answers(run: RunFolder) -> dict[str, Predictions]:
    paths = {key: run.stage(key) / "predictions.csv" for key in ("student", "fixres")}
    paths["resized"] = run.stage("fixres") / RESIZED
    return {key: read_predictions(path) for key, path in paths.items()}


def _sentence(made: dict[str, Any], facts: Facts, val: Paired, test: Paired) -> str:
    """What came of it, in words."""
    fixres, student = facts.model("fixres"), facts.model("student")
    if made["kept"] == "student":
        return (
            f"Fine-tuning at {fixres.test_px} px is not better on val, so the student "
            "was kept as it was: the last two rows are one model."
        )
    size = f"Tested at {fixres.test_px} instead of {student.test_px} px"
    if fixres.test_px == student.test_px:
        size = f"At the {fixres.test_px} px the student already had"
    reading = "more than chance" if test.shown else "no difference shown"
    return (
        f"{size}, FixRes has {percent(fixres.test.top1)} on {count(fixres.test.n)} test images: "
        f"{points(test.difference)} points against only testing at that size on test ({reading}), "
        f"{points(val.difference)} on val."
    )

"""`stillroom sweep learning-curve`: would more images help?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serve.contract.errors import UsageError
from stillroom.sweep.cells import StudyCell, train_cells
from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.learning_curve.facts import Curve, read_curve
from stillroom.sweep.learning_curve.page import render_curve
from stillroom.sweep.learning_curve.subsets import subset
from stillroom.sweep.lists import numbers
from stillroom.sweep.subject import StudyData, open_study_data
from stillroom.sweep.trial import PREDICTIONS
from train.data.dataset import Dataset
from train.engine.seed import derive_seed
from train.evaluation import read_predictions
from train.options import TrainOptions

__all__ = ["CurveRequest", "draw_learning_curve", "scaled"]

EQUAL = ("steps", "epochs")
LEAST_FRACTIONS = 3  # the curve has three parameters


@dataclass(frozen=True)
class CurveRequest:
    """What the user asked for.

    Args:
        target: run or images.
        overrides: key=value each.
        percents: of the training images, such as "10,25,50,100".
        seeds: subsets and trainings of each.
        equal: steps, so that few images are trained on as long as all; or epochs.
        recipe: a file or a shipped recipe; None takes the run's.
        name: of the sweep's folder.
    """

    target: Path
    overrides: tuple[str, ...]
    percents: str = "10,25,50,100"
    seeds: int = 3
    equal: str = "steps"
    recipe: str | None = None
    name: str = "learning-curve"


def draw_learning_curve(request: CurveRequest) -> Path:
    """Train on growing subsets and extend the curve.

    Returns:
        The page.

    Raises:
        UsageError: percents that make no curve; nothing was trained.
        Interrupted: a signal came; the same command goes on.
    """
    fractions = _fractions(request.percents)
    if request.equal not in EQUAL:
        raise UsageError(f"--equal {request.equal!r}: expected {' or '.join(EQUAL)}.")
    subject = open_study_data(request.target, request.recipe, request.overrides)
    parts = {
        (fraction, seed): subset(subject.dataset, fraction, _seed(subject, seed))
        for fraction in fractions
        for seed in range(request.seeds)
    }
    folder = SweepFolder.of(subject.run.path, request.name)
    with folder.opened(_plan(subject, request, fractions)):
        cells = [
            _cell(subject, part, request.equal, fraction, seed)
            for (fraction, seed), part in parts.items()
        ]
        train_cells(folder, cells)
        photos = [len(parts[fraction, 0].of_split("train")) for fraction in fractions]
        curve = read_curve(fractions, photos, _hits(folder, len(fractions), request.seeds))
        folder.keep_checkpoints({len(cells) - request.seeds})  # of all images, first seed
        _write(folder, subject, request, curve)
    return folder.page


def scaled(options: TrainOptions, photos: int, all_photos: int, equal: str) -> TrainOptions:
    """Options for a subset: a batch is never larger than it, and the epochs make up for its size.

    Args:
        options: for all images.
        photos: in the subset.
        all_photos: in the whole training split.
        equal: "steps" or "epochs".
    """
    whole_steps = max(1, all_photos // options.batch_size)
    options = replace(options, batch_size=min(options.batch_size, photos))
    if equal == "epochs":
        return options
    factor = whole_steps / (photos // options.batch_size)
    changed = {name: round(getattr(options, name) * factor) for name in ("epochs", "head_epochs")}
    return replace(options, **changed)


def _cell(subject: StudyData, part: Dataset, equal: str, fraction: float, seed: int) -> StudyCell:
    photos, everything = (len(one.of_split("train")) for one in (part, subject.dataset))
    options = scaled(subject.recipe.teacher, photos, everything, equal)
    name = f"{fraction:.0%} = {photos} images, seed {seed}, {options.epochs} epochs"
    return StudyCell(name, part, options, _seed(subject, seed))


def _seed(subject: StudyData, seed: int) -> int:
    return derive_seed(subject.recipe.seed, "learning curve", seed)


def _hits(folder: SweepFolder, fractions: int, seeds: int) -> Any:
    """(F, S, N) right predictions."""
    hits = []
    for number in range(fractions * seeds):
        predictions = read_predictions(folder.trial(number) / PREDICTIONS)
        hits.append(predictions.predicted == predictions.targets)
    return np.array(hits).reshape(fractions, seeds, -1)


def _write(folder: SweepFolder, subject: StudyData, request: CurveRequest, curve: Curve) -> None:
    folder.write(
        {
            "kind": "learning-curve",
            "judged_on": "val",
            "test_photographs_held_back": subject.held_back,
            "answer": curve.answer,
            "sentences": curve.sentences(),
            "gain_of_doubling": asdict(curve.gain),
            "top1_doubled": asdict(curve.doubled),
            "power_law": {
                "scale": float(curve.fit.scale[0]),
                "exponent": float(curve.fit.exponent[0]),
                "floor": float(curve.fit.floor[0]),
                "unit_photographs": curve.fit.unit,
            },
        },
        curve.rows(),
    )
    folder.write_page(render_curve(curve, subject, request.name, request.equal))


def _fractions(text: str) -> tuple[float, ...]:
    values = sorted(numbers(text, "--percents", float, 0.1, 100.0))
    if len(values) < LEAST_FRACTIONS or values[-1] != 100:
        raise UsageError(
            f"--percents {text!r}: a curve needs {LEAST_FRACTIONS} or more, the last one 100.",
            "Write 10,25,50,100.",
        )
    return tuple(value / 100 for value in values)


def _plan(subject: StudyData, request: CurveRequest, fractions: Sequence[float]) -> dict[str, Any]:
    fixed = asdict(subject.recipe.teacher)
    del fixed["workers"]
    return {
        "kind": "learning-curve",
        "seed": subject.recipe.seed,
        "teacher": fixed,
        "fractions": list(fractions),
        "seeds": request.seeds,
        "equal": request.equal,
        "images": subject.digest,
    }

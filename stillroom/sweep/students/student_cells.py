"""The cells of a search for a student: one distilled, and fitted to one test size by FixRes.

A cell is known by a digest of all that decides it, so a longer list of students or sizes finds the
finished ones again.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compress.fixres_stage import tune_fixres
from compress.options import FixResOptions, deciding_distil
from compress.stage import build_task
from compress.teachers import Teacher
from serve.contract.artifact import MODEL
from serve.contract.digest import canonical_json, digest_of_json
from serve.contract.files import write_atomic
from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.subject import StudyData
from stillroom.sweep.trial import (
    PREDICTIONS,
    STATE,
    TrialResult,
    predict_val,
    read_outcome,
    train_trial,
)
from train.data.unlabelled import Unlabelled
from train.engine.progress import say
from train.engine.seed import derive_seed
from train.evaluation import evaluate, write_predictions
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.options import TrainOptions, deciding

__all__ = [
    "CELL",
    "SCORES",
    "SearchContext",
    "Student",
    "StudentTrial",
    "distil_cell",
    "tune_cell",
    "write_cell",
]

CELL = "cell.json"
SCORES = ("n", "hits", "top1", "top1_low", "top1_high", "loss")


@dataclass(frozen=True)
class SearchContext:
    """What all students of a search are taught.

    Args:
        subject: images of train and val, and the recipe.
        teachers: who teach.
        unlabelled: further images; None for none.
    """

    subject: StudyData
    teachers: tuple[Teacher, ...]
    unlabelled: Unlabelled | None

    def key(self, options: TrainOptions) -> str:
        """Digest of all that decides a student."""
        return digest_of_json(
            {
                "images": self.subject.digest,
                "student": deciding(options),
                "distil": deciding_distil(self.subject.recipe.distil),
                "teachers": [teacher.describe() for teacher in self.teachers],
                "seed": self.subject.recipe.seed,
            }
        )


@dataclass(frozen=True)
class Student:
    """A student that was distilled.

    Args:
        folder: of its files.
        options: of its training.
        outcome: at its own size, before FixRes.
    """

    folder: Path
    options: TrainOptions
    outcome: TrialResult


@dataclass(frozen=True)
class StudentTrial:
    """A student at a test size.

    Args:
        folder: of its files.
        student: that FixRes began with.
        test_size_px: side of the square that it sees.
        scores: n, hits, top1 with its Wilson interval and loss, on val.
        flops: multiply-adds of one image.
        kept: fixres, or student where that is not better on val.
        precision: fp32, whose checkpoint is in the folder; of others the file alone is.
    """

    folder: Path
    student: Student
    test_size_px: int
    scores: dict[str, Any]
    flops: int
    kept: str
    precision: str = "fp32"

    @property
    def name(self) -> str:
        """Of the cell among those of a search."""
        reduced = "" if self.precision == "fp32" else f"-{self.precision}"
        return f"{self.student.folder.name}-{self.test_size_px}{reduced}"

    @property
    def network(self) -> str:
        """Architecture, and precision where it is not fp32."""
        arch = self.student.options.arch
        return arch if self.precision == "fp32" else f"{arch}, {self.precision}"

    @property
    def model(self) -> Path:
        """What is timed: the folder of a checkpoint, or a file."""
        return self.folder if self.precision == "fp32" else self.folder / MODEL


def distil_cell(folder: SweepFolder, course: SearchContext, options: TrainOptions) -> Student:
    """Distil a student, or find it where that is done.

    Raises:
        Interrupted: a signal came; the state is saved.
        StillroomError: the training failed.
    """
    subject, recipe = course.subject, course.subject.recipe
    path = folder.path / "trials" / f"{options.arch}-{course.key(options)[:10]}"
    outcome = read_outcome(path)
    if outcome is None:
        task = build_task(
            subject.dataset, course.teachers, options, recipe.distil, course.unlabelled
        )
        seed = derive_seed(recipe.seed, "student")  # as the pipeline's stage
        outcome = train_trial(path, subject.dataset, options, seed=seed, task=task)
    say(f"  val top-1 {outcome.top1:.1%} ({outcome.top1_low:.1%} to {outcome.top1_high:.1%})")
    return Student(path, options, outcome)


def tune_cell(course: SearchContext, student: Student, fixres: FixResOptions) -> StudentTrial:
    """Fit a student to a test size, or read the outcome where that is done.

    Raises:
        As `compress.fixres_stage.tune_fixres`.
    """
    recipe, dataset = course.subject.recipe, course.subject.dataset
    key = digest_of_json({"fixres": asdict(fixres), "seed": recipe.seed})
    folder = student.folder / f"fixres-{fixres.test_size_px}-{key[:10]}"
    if not (folder / CELL).is_file():
        state = folder / STATE
        state.mkdir(parents=True, exist_ok=True)
        model, card = load_checkpoint(student.folder)
        tuned = tune_fixres(dataset, model, card, fixres, seed=recipe.seed, folder=state)
        predictions = predict_val(tuned.model, dataset, tuned.card.preprocess)
        write_predictions(folder / PREDICTIONS, predictions)
        save_checkpoint(folder, tuned.model, tuned.card)
        figures = evaluate(predictions)
        value = {
            "scores": {name: figures[name] for name in SCORES},
            "flops": tuned.card.flops,
            "kept": tuned.kept,
            "candidates": tuned.candidates,
            "last_norms": list(tuned.norms.names),
            "proof": tuned.proof,
        }
        write_cell(folder, value)
        shutil.rmtree(state)
    value = json.loads((folder / CELL).read_bytes())
    found = {name: value[name] for name in ("scores", "flops", "kept")}
    return StudentTrial(folder, student, fixres.test_size_px, **found)


def write_cell(folder: Path, value: dict[str, Any]) -> None:
    """Write a cell's last file: without it the cell is not done."""
    write_atomic(folder / CELL, canonical_json(value))

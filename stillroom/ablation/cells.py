"""The trainings of an ablation: four students of equal budgets for each seed, each done once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compress.fixres_stage import fine_tune_fixres
from compress.options import DistilOptions, FixResOptions
from compress.stage import distil_student
from serve.contract.digest import canonical_json
from serve.contract.errors import RecipeError
from train.data.dataset import Dataset
from train.data.unlabelled import Unlabelled
from train.engine.progress import say
from train.engine.seed import derive_seed
from train.evaluation import Predictions, predict_logits, write_predictions
from train.loader.views import pixels_of
from train.models.checkpoint import load_checkpoint
from train.options import TrainOptions
from train.stage import train_teacher

__all__ = ["ARMS", "Arm", "Trainings", "cell_folder"]

DONE, STUDENT, RESIZED = "cell.json", "student", "resized.csv"


@dataclass(frozen=True)
class Arm:
    """One way to a student.

    Args:
        key: its folder.
        title: for people.
        distils: whether it learns from the teacher.
        fixes: whether its last epochs are FixRes.
    """

    key: str
    title: str
    distils: bool
    fixes: bool


ARMS = (
    Arm("labels", "labels only", distils=False, fixes=False),
    Arm("distilled", "+ distillation", distils=True, fixes=False),
    Arm("fixres", "+ FixRes", distils=False, fixes=True),
    Arm("both", "+ distillation + FixRes", distils=True, fixes=True),
)


def cell_folder(out: Path, arm: str, number: int) -> Path:
    """Where the training of one arm with one seed lies."""
    return out / "cells" / arm / str(number)


@dataclass(frozen=True)
class Trainings:
    """All trainings of one ablation.

    An epoch shows every image once, to whatever learns; FixRes epochs are taken from the
    arm's own, so that all arms see the same number of images.

    Args:
        dataset: train, val and test.
        teacher: folder of its checkpoint.
        student: of all students; its epochs are those before FixRes.
        distil: how those learn that have the teacher.
        fixres: how those are fine-tuned that are; the others train as many epochs longer.
        unlabelled: images without labels, for those that have the teacher.
        seed: of the run.

    Raises:
        RecipeError: restarts, which repeat the epochs and make no equal budgets.
    """

    dataset: Dataset
    teacher: Path
    student: TrainOptions
    distil: DistilOptions
    fixres: FixResOptions
    unlabelled: Unlabelled | None
    seed: int

    def __post_init__(self) -> None:
        if self.student.restarts:
            raise RecipeError(
                f"student.restarts = {self.student.restarts}: the four students would not have "
                "equal budgets.",
                "Set student.restarts=0 and more student.epochs.",
            )

    def run(self, out: Path, seeds: int) -> None:
        """Train whatever is not done yet, seed by seed; a stopped call goes on where it was."""
        todo = [(number, arm) for number in range(seeds) for arm in ARMS]
        for count, (number, arm) in enumerate(todo, 1):
            folder = cell_folder(out, arm.key, number)
            say(f"{count} of {len(todo)}: seed {number + 1}, {arm.title}")
            if not (folder / DONE).is_file():
                self._train(folder, arm, derive_seed(self.seed, "ablation", number))

    def _train(self, folder: Path, arm: Arm, seed: int) -> None:
        epochs = self.student.epochs + (0 if arm.fixes else self.fixres.epochs)
        options = replace(self.student, epochs=epochs)
        trained = folder / STUDENT if arm.fixes else folder
        if not (arm.fixes and (trained / DONE).is_file()):
            trained.mkdir(parents=True, exist_ok=True)
            self._fit(trained, arm, options, seed)
            _finish(trained)
        if arm.fixes:
            fine_tune_fixres(self.dataset, trained, self.fixres, seed=seed, out=folder)
            _predict_resized(self.dataset, trained, folder)
            _finish(folder)

    def _fit(self, out: Path, arm: Arm, options: TrainOptions, seed: int) -> None:
        if not arm.distils:
            train_teacher(self.dataset, options, seed=seed, out=out)
            return
        distil_student(
            self.dataset,
            self.teacher,
            options,
            self.distil,
            seed=seed,
            out=out,
            unlabelled=self.unlabelled,
        )


def _predict_resized(dataset: Dataset, student: Path, fixed: Path) -> None:
    """Answers of the student before FixRes, at the size that FixRes gave it."""
    model, card = load_checkpoint(student)
    _, fixed_card = load_checkpoint(fixed)
    photos = dataset.of_split("test")
    logits = predict_logits(model, pixels_of(dataset.root, photos, fixed_card.preprocess))
    write_predictions(fixed / RESIZED, Predictions(photos, card.labels, logits))


def _finish(folder: Path) -> None:
    """Drop what resuming needed, and say that the training is done."""
    steps = sum(phase["step"] for phase in _last_records(folder))
    for hidden in folder.glob(".*"):
        shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()
    (folder / DONE).write_bytes(canonical_json({"steps": steps}))


def _last_records(folder: Path) -> Iterator[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = {record["phase"]: record for record in map(json.loads, lines)}
    yield from last.values()

"""Callbacks: called in their order, at the right times, on what the training is then."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest

from serve.contract.errors import Interrupted, StillroomError
from tests.train.fits import PER_EPOCH, PLAN, Poisoned, SignalAt, toy_views, validate_of
from tests.train.toy import toy_model
from train.data.dataset import Dataset
from train.engine.callbacks import Callback
from train.engine.loop import Phase, fit
from train.engine.resume_state import saved_steps
from train.engine.step import StepResult
from train.engine.trainer import METRICS, Trainer
from train.losses.objective import CrossEntropy, Objective
from train.models.freeze import TrainAll


class Notes(Callback):
    """What was called, when."""

    def __init__(self, name: str, said: list[Any]) -> None:
        self._name, self._said = name, said

    def on_step(self, trainer: Trainer, images: int) -> None:
        self._said.append((self._name, "step", trainer.done, images))

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        assert saved_steps(trainer.folder)[-1] == trainer.done  # the state is saved by then
        self._said.append((self._name, "epoch", record["epoch"], record["val_loss"]))

    def on_stop(self, trainer: Trainer) -> None:
        assert saved_steps(trainer.folder)[-1] == trainer.done
        self._said.append((self._name, "stop", trainer.done))


class Explains(Callback):
    """An error of its own for what is not finite."""

    def on_nonfinite(self, trainer: Trainer, failed: StepResult | None) -> StillroomError | None:
        assert failed is not None
        assert not math.isfinite(failed.loss)
        return StillroomError(f"mine at step {failed.step}")


def train(dataset: Dataset, out: Path, objective: Objective, *callbacks: Callback) -> None:
    phase = Phase("all", objective, TrainAll(), PLAN)
    views: Any = toy_views(dataset)
    validate = validate_of(dataset)
    fit(phase, toy_model(), views, validate=validate, folder=out, callbacks=callbacks)


def test_each_is_called_at_each_step_and_epoch_in_their_order(
    dataset: Dataset, tmp_path: Path
) -> None:
    said: list[Any] = []
    train(dataset, tmp_path, CrossEntropy(), Notes("a", said), Notes("b", said))
    assert [note[0] for note in said] == ["a", "b"] * (len(said) // 2)
    first = [note[1:] for note in said if note[0] == "a"]
    steps = [(number, PLAN.batch_size) for number in range(1, PLAN.epochs * PER_EPOCH + 1)]
    assert [note[1:] for note in first if note[0] == "step"] == steps
    records = map(json.loads, (tmp_path / ".all" / METRICS).read_text().splitlines())
    losses = [(record["epoch"], record["val_loss"]) for record in records]
    assert [note[1:] for note in first if note[0] == "epoch"] == losses


def test_a_signal_stops_after_the_save(dataset: Dataset, tmp_path: Path) -> None:
    said: list[Any] = []
    with pytest.raises(Interrupted):
        train(dataset, tmp_path, SignalAt(4, signal.SIGTERM), Notes("a", said))
    assert said[-1] == ("a", "stop", 4)


def test_the_first_that_explains_is_raised_before_the_nan_doctor(
    dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(StillroomError, match="mine at step 4"):
        train(dataset, tmp_path, Poisoned(5), Notes("a", []), Explains())
    assert not list(tmp_path.parent.glob("nonfinite-*"))  # the doctor was not asked

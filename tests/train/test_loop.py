from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import train.stage
from serve.contract.errors import DatasetError, Interrupted, StillroomError
from serve.contract.preprocess import PreprocessSpec
from tests.train.toy import (
    PATIENT,
    SIZE_PX,
    fast,
    same_tensors,
    state_of,
    toy_model,
    toy_views,
)
from train.batches import pixels_of
from train.evaluate import validator
from train.freeze import FreezePolicy, HeadOnly, TrainAll
from train.loop import METRICS, Plan, Scores, Validate, fit, learning_rate
from train.models import PhotoClassifier
from train.objective import CrossEntropy, Objective, StepOutput
from train.stage import Dataset, train_model

PLAN = Plan(
    epochs=3,
    batch_size=12,
    lr=3e-3,
    warmup_epochs=0.5,
    weight_decay=0.02,
    ema_decay=0.9,
    clip_norm=5.0,
    seed=3,
)
PER_EPOCH = 3  # 39 training photographs in batches of 12
SCHEDULES = st.tuples(st.integers(2, 200), st.integers(0, 50), st.floats(1e-4, 1.0))


class SignalAt:
    """Cross-entropy that sends this process a signal during its n-th step."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self._left, self._number = step, number

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)
        return CrossEntropy()(model, images, labels)


class Poisoned:
    """Cross-entropy that becomes NaN at the n-th step."""

    def __init__(self, step: int) -> None:
        self._left = step

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        self._left -= 1
        output = CrossEntropy()(model, images, labels)
        return output if self._left else replace(output, loss=output.loss * math.nan)


class Crash(Exception):
    pass


@pytest.fixture(scope="module")
def validate(dataset: Dataset) -> Validate:
    photos = dataset.of_split("val")
    pixels = pixels_of(dataset.root, photos, PreprocessSpec(SIZE_PX, 1.0))
    return validator(pixels, dataset.targets("val"))


def _fit(
    dataset: Dataset,
    folder: Path,
    validate: Validate,
    *,
    plan: Plan = PLAN,
    objective: Objective | None = None,
    policy: FreezePolicy | None = None,
) -> tuple[PhotoClassifier, Scores]:
    """A new process would build the model again, from the same seed, and call `fit` again."""
    model = toy_model().to(memory_format=torch.channels_last)
    folder.mkdir(exist_ok=True)
    scores = fit(
        "all",
        model,
        objective or CrossEntropy(),
        policy or TrainAll(),
        toy_views(dataset),
        plan=plan,
        validate=validate,
        folder=folder,
    )
    return model, scores


@pytest.fixture(scope="module")
def whole(
    dataset: Dataset, validate: Validate, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Scores, bytes]:
    """Weights, scores and log of a training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    model, scores = _fit(dataset, folder, validate)
    return state_of(model), scores, (folder / ".all" / METRICS).read_bytes()


def _assert_equal(
    whole: tuple[dict[str, Any], Scores, bytes],
    model: PhotoClassifier,
    scores: Scores,
    folder: Path,
) -> None:
    assert scores == whole[1]
    assert (folder / ".all" / METRICS).read_bytes() == whole[2]
    assert same_tensors(state_of(model), whole[0])


# ---- the schedule


@PATIENT
@given(SCHEDULES)
def test_the_rate_starts_low_peaks_at_the_peak_and_ends_at_the_floor(
    schedule: tuple[int, int, float],
) -> None:
    total, warmup, peak = schedule
    floor = peak / 100
    arguments: dict[str, Any] = {"total": total, "warmup": warmup, "peak": peak, "floor": floor}
    rates = [learning_rate(step, **arguments) for step in range(total)]
    assert all(0 < rate <= peak for rate in rates)
    if warmup:
        assert rates[0] == pytest.approx(peak / (warmup + 1))
    if warmup < total:
        assert rates[warmup] == max(rates) == peak
    if warmup + 1 < total:
        assert rates[-1] == pytest.approx(floor)
    rise, fall = rates[: warmup + 1], rates[warmup:]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)


def test_the_rate_has_no_jump() -> None:
    rates = [learning_rate(s, total=1000, warmup=100, peak=1.0, floor=0.0) for s in range(1000)]
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 0.011


def test_a_floor_above_the_peak_does_not_raise_the_rate() -> None:
    rates = [learning_rate(s, total=9, warmup=2, peak=0.1, floor=1.0) for s in range(9)]
    assert max(rates) == 0.1


# ---- one training


def test_training_learns_and_logs_each_epoch(whole: tuple[dict[str, Any], Scores, bytes]) -> None:
    _, scores, log = whole
    lines = [json.loads(line) for line in log.splitlines()]
    assert [(line["phase"], line["epoch"], line["step"]) for line in lines] == [
        ("all", 1, 3),
        ("all", 2, 6),
        ("all", 3, 9),
    ]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0].keys() >= {"ce", "train_top1", "val_loss", "val_top1"}
    assert scores["ema"] in (0.0, 1.0)


def test_training_is_a_function_of_the_seed(
    dataset: Dataset,
    validate: Validate,
    tmp_path: Path,
    whole: tuple[dict[str, Any], Scores, bytes],
) -> None:
    model, scores = _fit(dataset, tmp_path, validate)
    _assert_equal(whole, model, scores, tmp_path)
    other, _ = _fit(dataset, tmp_path / "other", validate, plan=replace(PLAN, seed=4))
    assert not same_tensors(state_of(other), whole[0])


def test_weight_decay_spares_biases_and_norms_and_the_optimiser_leaves_frozen_weights(
    dataset: Dataset, validate: Validate, tmp_path: Path
) -> None:
    heavy = replace(PLAN, epochs=1, weight_decay=50.0, ema_decay=0.0)
    before = state_of(toy_model())
    model, _ = _fit(dataset, tmp_path / "head", validate, plan=heavy, policy=HeadOnly())
    after = state_of(model)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"backbone.classifier.weight", "backbone.classifier.bias"}
    model, _ = _fit(dataset, tmp_path / "all", validate, plan=heavy)
    weights = model.backbone.state_dict()
    assert weights["bn1.weight"].abs().mean() > 0.9  # would be near 0 after such decay
    assert weights["conv_stem.weight"].norm() < 0.9 * np.linalg.norm(
        before["backbone.conv_stem.weight"]
    )


def test_fewer_photographs_than_a_batch_are_refused(
    dataset: Dataset, validate: Validate, tmp_path: Path
) -> None:
    with pytest.raises(
        DatasetError, match="39 training images are fewer than one batch of 40"
    ) as e:
        _fit(dataset, tmp_path, validate, plan=replace(PLAN, batch_size=40))
    assert e.value.next_step == "Lower batch_size."


@pytest.mark.parametrize("step", [1, 5])
def test_a_loss_that_is_not_finite_stops_the_training(
    dataset: Dataset, validate: Validate, tmp_path: Path, step: int
) -> None:
    message = f"The loss of all is not finite at step {step}"
    with pytest.raises(StillroomError, match=message) as caught:
        _fit(dataset, tmp_path, validate, objective=Poisoned(step))
    assert "Lower lr" in caught.value.next_step
    states = list((tmp_path / ".all").glob(".state-*"))
    assert [path.name for path in states] == [".state-000000003"] * (step > PER_EPOCH)


def test_a_validation_loss_that_is_not_finite_stops_the_training(
    dataset: Dataset, tmp_path: Path
) -> None:
    broken = lambda model: {"val_loss": math.inf, "val_top1": 0.0}  # noqa: E731
    with pytest.raises(StillroomError, match="The validation loss of all is not finite at step 3"):
        _fit(dataset, tmp_path, broken)


@pytest.mark.parametrize(
    ("raw", "averaged", "kept"),
    [(1.0, 0.9, 1.0), (0.9, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, math.nan, 0.0)],
)
def test_the_average_is_kept_where_its_validation_loss_is_lower(
    dataset: Dataset, tmp_path: Path, raw: float, averaged: float, kept: float
) -> None:
    losses = iter([1.0, raw, averaged])  # end of the epoch, then the two candidates

    def validate(model: PhotoClassifier) -> Scores:
        seen.append(state_of(model))
        return {"val_loss": next(losses), "val_top1": 0.5}

    seen: list[dict[str, Any]] = []
    model, scores = _fit(dataset, tmp_path, validate, plan=replace(PLAN, epochs=1))
    assert scores["ema"] == kept
    assert not same_tensors(seen[1], seen[2])
    assert same_tensors(state_of(model), seen[2] if kept else seen[1])


# ---- stopped and resumed


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("step", [1, 3, 4, 8, 9])
def test_a_stopped_and_resumed_training_equals_an_undisturbed_one_bit_for_bit(
    dataset: Dataset, validate: Validate, tmp_path: Path, step: int, optimizer: str
) -> None:
    plan = replace(PLAN, optimizer=optimizer)
    model, scores = _fit(dataset, tmp_path / "whole", validate, plan=plan)
    whole = state_of(model), scores, (tmp_path / "whole" / ".all" / METRICS).read_bytes()
    with pytest.raises(Interrupted, match=rf"Stopped at step {step} of 9 of all") as caught:
        _fit(dataset, tmp_path / "cut", validate, plan=plan, objective=SignalAt(step))
    assert caught.value.exit_code == 75
    assert "Run the same command again" in caught.value.next_step
    model, scores = _fit(dataset, tmp_path / "cut", validate, plan=plan)
    _assert_equal(whole, model, scores, tmp_path / "cut")


def test_a_training_killed_during_validation_goes_on_from_the_epoch_before(
    dataset: Dataset,
    validate: Validate,
    tmp_path: Path,
    whole: tuple[dict[str, Any], Scores, bytes],
) -> None:
    calls = itertools.count(1)

    def crash(model: PhotoClassifier) -> Scores:
        if next(calls) == 2:
            raise Crash
        return validate(model)

    with pytest.raises(Crash):
        _fit(dataset, tmp_path, crash)
    with (tmp_path / ".all" / METRICS).open("a") as file:
        file.write('{"phase": "all", "epoch": 2')  # a line that no saved state knows of
    model, scores = _fit(dataset, tmp_path, validate)
    _assert_equal(whole, model, scores, tmp_path)


def test_many_interruptions_are_as_none(
    dataset: Dataset,
    validate: Validate,
    tmp_path: Path,
    whole: tuple[dict[str, Any], Scores, bytes],
) -> None:
    for _ in range(9):
        with pytest.raises(Interrupted):
            _fit(dataset, tmp_path, validate, objective=SignalAt(1))
    model, scores = _fit(dataset, tmp_path, validate, objective=Poisoned(1))  # no step is left
    _assert_equal(whole, model, scores, tmp_path)


def test_signal_handlers_are_put_back(dataset: Dataset, validate: Validate, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        _fit(dataset, tmp_path, validate, objective=SignalAt(2, signal.SIGINT))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_newest_state_damaged_means_the_training_starts_again(
    dataset: Dataset,
    validate: Validate,
    tmp_path: Path,
    whole: tuple[dict[str, Any], Scores, bytes],
) -> None:
    with pytest.raises(Interrupted):
        _fit(dataset, tmp_path, validate, objective=SignalAt(5))
    (state,) = (tmp_path / ".all").glob(".state-*")
    with (state / "state.safetensors").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\xff")
    model, scores = _fit(dataset, tmp_path, validate)
    _assert_equal(whole, model, scores, tmp_path)


def test_phases_stop_and_resume_in_either(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = fast(head_epochs=1, epochs=1)

    def run(name: str, *, head: Objective | None = None, all_: Objective | None = None) -> Path:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(train.stage, "CrossEntropy", lambda _: head or CrossEntropy())
            train_model(dataset, options, all_ or CrossEntropy(), seed=1, out=out)
        return out

    whole = run("whole")
    with pytest.raises(Interrupted, match="Stopped at step 2 of 3 of head"):
        run("cut", head=SignalAt(2))
    with pytest.raises(Interrupted, match="Stopped at step 1 of 3 of all"):
        run("cut", all_=SignalAt(1))
    cut = run("cut")
    names = {path.name for path in whole.iterdir() if not path.name.startswith(".")}
    assert names == {
        "checkpoint.json",
        "checkpoint.safetensors",
        "evaluation.json",
        "metrics.jsonl",
        "predictions.csv",
    }
    assert all((whole / name).read_bytes() == (cut / name).read_bytes() for name in names)
    lines = [json.loads(line) for line in (cut / METRICS).read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["head", "all"]


GROUP_STOP = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from serve.contract.errors import Interrupted
    from tests.train.test_loop import PLAN, _fit
    from tests.train.toy import open_dataset
    from train.objective import CrossEntropy
    from dataclasses import replace

    class StopAll:
        left = 5
        def __call__(self, *arguments):
            self.left -= 1
            if self.left == 0:
                print("ready", flush=True)
                time.sleep(2)
            return CrossEntropy()(*arguments)

    dataset = open_dataset(Path({photos!r}), Path({out!r}) / "data")
    scores = lambda model: {{"val_loss": 1.0, "val_top1": 0.5}}
    try:
        _fit(dataset, Path({out!r}), scores, plan=replace(PLAN, workers=2), objective=StopAll())
    except Interrupted as error:
        print(error.message)
"""


@pytest.mark.ci
def test_a_signal_to_the_whole_process_group_is_answered_by_saving(
    dataset: Dataset, tmp_path: Path
) -> None:
    root = str(Path(__file__).parents[2])
    code = GROUP_STOP.format(root=root, photos=str(dataset.root), out=str(tmp_path))
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert "Stopped at step 5 of 9 of all; everything is saved." in output, errors
    assert (tmp_path / ".all" / ".state-000000005").is_dir()

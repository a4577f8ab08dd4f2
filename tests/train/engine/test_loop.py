from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from serve.contract.errors import DatasetError, StillroomError
from tests.train.fits import PER_EPOCH, PLAN, Poisoned, fit_toy, validate_of
from tests.train.toy import same_tensors, state_of, toy_model
from train.engine.loop import Fitted, Scores, Validate
from train.engine.trainer import METRICS
from train.losses.objective import CrossEntropy, StepOutput
from train.models.classifier import ImageClassifier
from train.models.freeze import HeadOnly
from train.stage import Dataset

Whole = tuple[dict[str, Any], Fitted, bytes]


@pytest.fixture(scope="module")
def validate(dataset: Dataset) -> Validate:
    return validate_of(dataset)


@pytest.fixture(scope="module")
def whole(dataset: Dataset, validate: Validate, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Weights, result and log of a training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    model, fitted = fit_toy(dataset, folder, validate)
    return state_of(model), fitted, (folder / ".all" / METRICS).read_bytes()


def _assert_equal(whole: Whole, model: ImageClassifier, fitted: Fitted, folder: Path) -> None:
    assert fitted == whole[1]
    assert (folder / ".all" / METRICS).read_bytes() == whole[2]
    assert same_tensors(state_of(model), whole[0])


def test_training_learns_and_logs_each_epoch(whole: Whole) -> None:
    _, fitted, log = whole
    lines = [json.loads(line) for line in log.splitlines()]
    assert [(line["phase"], line["epoch"], line["step"]) for line in lines] == [
        ("all", 1, 3),
        ("all", 2, 6),
        ("all", 3, 9),
    ]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0].keys() >= {
        "ce",
        "data_loss",
        "lr",
        "weight_norm",
        "train_top1",
        "val_loss",
        "val_top1",
    }
    assert fitted.kept in ("raw", "ema")
    assert set(fitted.candidates) == {"raw", "ema"}
    assert fitted.scores == fitted.candidates[fitted.kept]


def test_training_is_a_function_of_the_seed(
    dataset: Dataset,
    validate: Validate,
    tmp_path: Path,
    whole: Whole,
) -> None:
    model, fitted = fit_toy(dataset, tmp_path, validate)
    _assert_equal(whole, model, fitted, tmp_path)
    other, _ = fit_toy(dataset, tmp_path / "other", validate, plan=replace(PLAN, seed=4))
    assert not same_tensors(state_of(other), whole[0])


def test_weight_decay_spares_biases_and_norms_and_the_optimiser_leaves_frozen_weights(
    dataset: Dataset, validate: Validate, tmp_path: Path
) -> None:
    heavy = replace(PLAN, epochs=1, weight_decay=50.0, ema_decay=0.0)
    before = state_of(toy_model())
    model, _ = fit_toy(dataset, tmp_path / "head", validate, plan=heavy, policy=HeadOnly())
    after = state_of(model)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"backbone.classifier.weight", "backbone.classifier.bias"}
    model, _ = fit_toy(dataset, tmp_path / "all", validate, plan=heavy)
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
        fit_toy(dataset, tmp_path, validate, plan=replace(PLAN, batch_size=40))
    assert e.value.next_step == "Lower batch_size."


@pytest.mark.parametrize("step", [1, 5])
def test_a_loss_that_is_not_finite_stops_the_training(
    dataset: Dataset, validate: Validate, tmp_path: Path, step: int
) -> None:
    message = f"Not finite at step {step} of all. It arises in the loss, from finite logits"
    with pytest.raises(StillroomError, match=message) as caught:
        fit_toy(dataset, tmp_path, validate, objective=Poisoned(step))
    assert "lower lr" in str(caught.value)
    assert (tmp_path.parent / f"nonfinite-all-step-{step}").is_dir()  # to replay it
    states = list((tmp_path / ".all").glob(".state-*"))
    assert [path.name for path in states] == [".state-000000003"] * (step > PER_EPOCH)


def test_a_validation_loss_that_is_not_finite_stops_the_training(
    dataset: Dataset, tmp_path: Path
) -> None:
    broken = lambda model: {"val_loss": math.inf, "val_top1": 0.0}  # noqa: E731
    with pytest.raises(StillroomError, match="The validation loss of all is not finite at step 3"):
        fit_toy(dataset, tmp_path, broken)


@pytest.mark.parametrize(
    ("raw", "averaged", "kept"),
    [(1.0, 0.9, "ema"), (0.9, 1.0, "raw"), (1.0, 1.0, "ema"), (1.0, math.nan, "raw")],
)
def test_the_average_is_kept_where_its_validation_loss_is_lower(
    dataset: Dataset, tmp_path: Path, raw: float, averaged: float, kept: str
) -> None:
    losses = iter([1.0, raw, averaged])  # end of the epoch, then the two candidates

    def validate(model: ImageClassifier) -> Scores:
        seen.append(state_of(model))
        return {"val_loss": next(losses), "val_top1": 0.5}

    seen: list[dict[str, Any]] = []
    model, fitted = fit_toy(dataset, tmp_path, validate, plan=replace(PLAN, epochs=1))
    assert fitted.kept == kept
    assert not same_tensors(seen[1], seen[2])
    assert same_tensors(state_of(model), seen[2] if kept == "ema" else seen[1])


# ---- what a plan may ask for


def _sum_of_weights(model: ImageClassifier) -> float:
    return sum(float(p.detach().abs().sum()) for p in model.parameters() if p.ndim > 1)


def test_the_mean_of_the_last_epochs_competes_with_the_last_weights(
    dataset: Dataset, validate: Validate, tmp_path: Path
) -> None:
    plan = replace(PLAN, swa_epochs=2, swa_lr=2e-3, precise_bn_images=30)
    _, fitted = fit_toy(dataset, tmp_path, validate, plan=plan)
    assert set(fitted.candidates) == {"raw", "ema", "ema+bn", "swa", "swa+bn"}
    losses = {name: scores["val_loss"] for name, scores in fitted.candidates.items()}
    assert fitted.kept == min(losses, key=losses.__getitem__)
    assert len(set(losses.values())) == 5


def test_swa_is_the_mean_of_the_weights_at_the_ends_of_epochs(
    dataset: Dataset, tmp_path: Path
) -> None:
    ends: list[dict[str, Any]] = []
    swa: dict[str, Any] = {}

    def watch(model: ImageClassifier) -> Scores:
        if len(ends) < 3:
            ends.append(state_of(model))
        else:
            swa.update(state_of(model))
        return {"val_loss": 1.0, "val_top1": 0.5}

    fit_toy(dataset, tmp_path, watch, plan=replace(PLAN, ema_decay=0.0, swa_epochs=2))
    name = "backbone.classifier.weight"
    assert np.allclose(swa[name], (ends[1][name] + ends[2][name]) / 2, atol=1e-6)


def test_precise_batch_norm_is_off_where_no_statistics_move(
    dataset: Dataset, validate: Validate, tmp_path: Path
) -> None:
    plan = replace(PLAN, precise_bn_images=30)
    _, fitted = fit_toy(dataset, tmp_path, validate, plan=plan, policy=HeadOnly())
    assert set(fitted.candidates) == {"raw", "ema"}


def test_l1_is_logged_apart_from_the_loss_of_the_data_and_shrinks_weights(
    dataset: Dataset, validate: Validate, tmp_path: Path
) -> None:
    log: list[dict[str, Any]] = []
    sparse, _ = fit_toy(dataset, tmp_path, validate, plan=replace(PLAN, l1=3e-3), listen=log.append)
    for record in log:
        assert record["loss"] == pytest.approx(record["data_loss"] + 3e-3 * record["l1"], rel=1e-5)
        assert record["data_loss"] == pytest.approx(record["ce"], rel=1e-6)
    dense, _ = fit_toy(dataset, tmp_path / "dense", validate)
    assert _sum_of_weights(sparse) < _sum_of_weights(dense)


def test_listeners_get_the_records_of_the_log_and_may_stop_the_training(
    dataset: Dataset, validate: Validate, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    seen: list[dict[str, Any]] = []

    def listen(record: dict[str, Any]) -> None:
        seen.append(record)
        if len(seen) == 2:
            raise Enough

    with pytest.raises(Enough):
        fit_toy(dataset, tmp_path, validate, listen=listen)
    lines = (tmp_path / ".all" / METRICS).read_text().splitlines()
    assert [json.loads(line) for line in lines] == seen


def test_a_plateau_lowers_the_rate(dataset: Dataset, tmp_path: Path) -> None:
    log: list[dict[str, Any]] = []
    worse = iter(range(1, 20))
    scores = lambda model: {"val_loss": float(next(worse)), "val_top1": 0.5}  # noqa: E731
    plan = replace(
        PLAN, epochs=5, schedule="plateau", decay_epochs=1.0, decay_factor=0.5, warmup_epochs=0.0
    )
    fit_toy(dataset, tmp_path, scores, plan=plan, listen=log.append)
    assert [record["lr"] / PLAN.lr for record in log] == [1.0, 1.0, 1.0, 0.5, 0.5]


def test_mixing_stops_for_the_last_epochs(dataset: Dataset, tmp_path: Path) -> None:
    shapes: list[int] = []

    class Spy(CrossEntropy):
        def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
            shapes.append(labels.ndim)
            return super().__call__(model, images, labels)

    scores = lambda model: {"val_loss": 1.0, "val_top1": 0.5}  # noqa: E731
    plan = replace(PLAN, mixup=0.4, mix_off_epochs=1)
    fit_toy(dataset, tmp_path, scores, plan=plan, objective=Spy())
    assert shapes == [2] * 6 + [1] * 3


def test_batches_of_several_sides_train(
    dataset: Dataset, validate: Validate, tmp_path: Path
) -> None:
    plan = replace(PLAN, sizes_px=(32, 48))
    _, fitted = fit_toy(dataset, tmp_path, validate, plan=plan)
    assert np.isfinite(fitted.scores["val_loss"])

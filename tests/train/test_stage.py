from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.toy import fast
from train.engine.callbacks import OnEpoch
from train.engine.plan import PhaseOptions, phase_options
from train.evaluation import evaluate, predict_logits, read_predictions, validator
from train.loader.views import pixels_of
from train.models.checkpoint import load_checkpoint
from train.options import AugmentOptions, TrainOptions
from train.stage import Dataset, fit_model, train_teacher


@pytest.fixture(scope="module")
def trained(
    dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    out = tmp_path_factory.mktemp("teacher")
    options = fast(epochs=12, lr=1e-2, crop_pct=0.9, test_size_px=36)
    return out, train_teacher(dataset, options, seed=0, out=out)


def test_the_files_tell_one_story(dataset: Dataset, trained: tuple[Path, dict[str, float]]) -> None:
    out, metrics = trained
    model, card = load_checkpoint(out)
    predictions = read_predictions(out / "predictions.csv")
    assert {photo.split for photo in predictions.photos} == {"val", "test"}
    evaluation = json.loads((out / "evaluation.json").read_bytes())
    for split in ("val", "test"):
        assert evaluation[split] == json.loads(json.dumps(evaluate(predictions.of_split(split))))
    assert metrics["test_top1"] == evaluation["test"]["top1"]
    assert metrics["parameters"] == card.parameters
    assert (card.preprocess.size_px, card.preprocess.crop_pct) == (36, 0.9)
    assert card.train_size_px == 32
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 12
    photos = dataset.of_split("val") + dataset.of_split("test")
    logits = predict_logits(model, pixels_of(dataset.root, photos, card.preprocess))
    assert np.array_equal(logits, predictions.logits)  # the saved model is the judged one


def test_training_beats_chance(trained: tuple[Path, dict[str, float]]) -> None:
    assert trained[1]["test_top1_low"] > 1 / 3


def test_targets_are_positions_in_the_sorted_labels(dataset: Dataset) -> None:
    labels = [dataset.labels[k] for k in dataset.targets("val")]
    assert labels == [photo.label for photo in dataset.of_split("val")]


def test_the_plan_follows_the_options() -> None:
    options = TrainOptions(epochs=7, lr=0.5, optimizer="sgd", precision="bf16", workers=3)
    plan = phase_options(options, 11)
    assert (plan.epochs, plan.lr, plan.optimizer) == (7, 0.5, "sgd")
    assert (plan.precision, plan.workers, plan.seed) == ("bf16", 3, 11)


def test_every_option_that_the_plan_shares_by_name_is_passed_on() -> None:
    """Each with a value of its own, so that none can stand for another or be forgotten."""
    shared = {f.name for f in fields(PhaseOptions)} & {f.name for f in fields(TrainOptions)}
    shared -= {"optimizer", "precision", "schedule"}
    values = {name: type(getattr(TrainOptions(), name))(i) for i, name in enumerate(shared, 1)}
    fractions = {"ema_decay": 0.5, "layer_decay": 0.25, "decay_factor": 0.125}
    values |= fractions | {"epochs": 99, "batch_size": 98, "accumulate": 97}
    plan = phase_options(TrainOptions(schedule="step", **values), 0)
    assert {name: getattr(plan, name) for name in values} == values
    assert plan.schedule == "step"
    mixed = AugmentOptions(mixup=0.1, cutmix=0.2, mix_off_epochs=3)
    plan = phase_options(TrainOptions(augment=mixed), 0)
    assert (plan.mixup, plan.cutmix, plan.mix_off_epochs) == (0.1, 0.2, 3)


def test_restarts_go_on_from_the_best_weights_and_never_end_worse(
    dataset: Dataset, tmp_path: Path
) -> None:
    log: list[dict[str, Any]] = []
    options = fast(head_epochs=1, epochs=2, restarts=2, lr=1e-2)
    trained = fit_model(dataset, options, seed=0, out=tmp_path, callbacks=[OnEpoch(log.append)])
    assert trained.phases == ["head", "all", "again-1", "again-2"]
    assert [record["phase"] for record in log] == [
        "head", *["all"] * 2, *["again-1"] * 2, *["again-2"] * 2
    ]  # fmt: skip
    losses = {
        phase: scores[trained.kept[phase]]["val_loss"]
        for phase, scores in trained.candidates.items()
        if phase != "head"
    }
    assert trained.scores["val_loss"] == min(losses.values())
    spec = trained.card.preprocess
    pixels = pixels_of(dataset.root, dataset.of_split("val"), spec)
    again = validator(pixels, dataset.targets("val"))(trained.model)
    assert again == trained.scores


def test_fitting_never_looks_at_the_test_split(dataset: Dataset, tmp_path: Path) -> None:
    blind = replace(dataset, photos=[p for p in dataset.photos if p.split != "test"])
    trained = fit_model(blind, fast(epochs=1), seed=0, out=tmp_path)
    assert trained.scores["val_top1"] >= 0

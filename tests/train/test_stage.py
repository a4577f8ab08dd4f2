from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.train.toy import fast
from train.batches import pixels_of
from train.checkpoint import load_checkpoint
from train.evaluate import evaluate, predict_logits, read_predictions
from train.options import TrainOptions
from train.stage import Dataset, plan_of, train_teacher


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
    plan = plan_of(options, 11, epochs=2)
    assert (plan.epochs, plan.lr, plan.optimizer) == (2, 0.5, "sgd")
    assert (plan.precision, plan.workers, plan.seed) == ("bf16", 3, 11)
    assert plan_of(options, 0).epochs == 7

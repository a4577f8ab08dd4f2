from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_score, recall_score, top_k_accuracy_score

from tests.train.toy import PATIENT, SIZE_PX, toy_model
from train.data.images import LabelledImage
from train.evaluation import (
    Predictions,
    evaluate,
    expected_calibration_error,
    predict_logits,
    read_predictions,
    validator,
    wilson_interval,
    write_predictions,
)
from train.models.freeze import HeadOnly


def _predictions(logits: NDArray[np.float32], targets: list[int]) -> Predictions:
    labels = tuple("abcdefgh"[: logits.shape[1]])
    photos = [
        LabelledImage(f"{i}.jpg", labels[t], "test", f"{i:064x}") for i, t in enumerate(targets)
    ]
    return Predictions(photos, labels, logits)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.959964, by hand
    [(5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1)],
)
def test_wilson_intervals_are_those_of_the_formula(
    hits: int, count: int, low: float, high: float
) -> None:
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_calibration_error_of_a_hand_example() -> None:
    # Four answers of 0.9 of which two are right, one of 0.5 that is right.
    probs = np.array([[0.9, 0.1]] * 4 + [[0.5, 0.5]])
    targets = np.array([0, 0, 1, 1, 0])
    assert expected_calibration_error(probs, targets) == pytest.approx(0.8 * 0.4 + 0.2 * 0.5)
    sure = np.eye(2)[[0, 1, 1]]
    assert expected_calibration_error(sure, np.array([0, 1, 1])) == 0
    assert expected_calibration_error(sure, np.array([1, 0, 0])) == 1


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (200, 7)).astype(np.float32)
    targets = rng.integers(0, 6, 200)  # the last class never occurs
    predictions = _predictions(logits, targets.tolist())
    result = evaluate(predictions)
    answers, classes = logits.argmax(1), list(range(7))
    assert (predictions.predicted == answers).all()
    assert (predictions.targets == targets).all()
    assert result["n"] == 200
    assert result["top1"] == result["hits"] / 200 == (answers == targets).mean()
    assert result["confusion"] == confusion_matrix(targets, answers, labels=classes).tolist()
    assert np.array(result["confusion"])[2].sum() == (targets == 2).sum()  # rows are the truth
    for name, score in (("precision", precision_score), ("recall", recall_score)):
        expected = score(targets, answers, labels=classes, average=None, zero_division=0.0)
        assert [entry[name] for entry in result["classes"]] == pytest.approx(expected.tolist())
    assert [entry["n"] for entry in result["classes"]] == [(targets == k).sum() for k in classes]
    assert result["top5"] == top_k_accuracy_score(targets, logits, k=5, labels=classes)
    loss = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(targets))
    assert result["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_five_classes_have_no_top5() -> None:
    assert "top5" not in evaluate(_predictions(np.eye(5, dtype=np.float32), [0, 1, 2, 3, 4]))


@PATIENT
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(2, 4)),
        elements=st.floats(width=32, allow_nan=False),
    )
)
def test_predictions_are_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, logits: NDArray[np.float32]
) -> None:
    path = tmp_path_factory.mktemp("predictions") / "predictions.csv"
    written = _predictions(logits, [0] * len(logits))
    write_predictions(path, written)
    read = read_predictions(path)
    assert read.logits.tobytes() == logits.tobytes()
    assert (read.photos, read.labels) == (written.photos, written.labels)


def test_odd_names_survive_in_predictions(tmp_path: Path) -> None:
    labels = ('with, "both"', "logit:x", "é")
    photos = [LabelledImage('with, "both"/a\nb.jpg', labels[0], "val", "0")]
    predictions = Predictions(photos, labels, np.array([[1.5, -0.0, 3]], np.float32))
    write_predictions(tmp_path / "p.csv", predictions)
    read = read_predictions(tmp_path / "p.csv")
    assert read.labels == labels
    assert read.photos == photos
    assert read.logits.tobytes() == predictions.logits.tobytes()


def test_a_split_is_taken_with_its_logits() -> None:
    photos = [
        LabelledImage(f"{i}.jpg", "a", split) for i, split in enumerate(["val", "test", "val"])
    ]
    logits = np.arange(6, dtype=np.float32).reshape(3, 2)
    val = Predictions(photos, ("a", "b"), logits).of_split("val")
    assert [photo.path for photo in val.photos] == ["0.jpg", "2.jpg"]
    assert val.logits.tolist() == [[0, 1], [4, 5]]


def test_prediction_runs_in_evaluation_mode_and_gives_every_layer_its_mode_back() -> None:
    model = toy_model()
    pixels = np.random.default_rng(0).integers(0, 256, (70, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    expected = predict_logits(model, pixels)
    HeadOnly().set_mode(model)
    modes = [module.training for module in model.modules()]
    assert any(modes)
    assert not all(modes)
    statistics = model.backbone.bn1.running_mean.clone()
    assert (predict_logits(model, pixels) == expected).all()
    assert [module.training for module in model.modules()] == modes
    model.train()
    assert (predict_logits(model, pixels) == expected).all()
    assert all(module.training for module in model.modules())
    assert model.backbone.bn1.running_mean.equal(statistics)
    assert expected.shape == (70, 3)
    assert expected.dtype == np.float32


def test_a_validator_scores_what_evaluation_would() -> None:
    model = toy_model().train()
    pixels = np.random.default_rng(1).integers(0, 256, (9, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    targets = np.arange(9) % 3
    scores = validator(pixels, targets)(model)
    result = evaluate(_predictions(predict_logits(model, pixels), targets.tolist()))
    assert scores["val_top1"] == pytest.approx(result["top1"])
    assert scores["val_loss"] == pytest.approx(result["loss"], rel=1e-5)
    assert model.training

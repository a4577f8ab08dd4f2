"""Figures of the evaluation: against scikit-learn, by hand, and their intervals' properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax
from sklearn.metrics import f1_score, precision_score, recall_score, top_k_accuracy_score

from stillroom.evaluation.label_issues import confident_classes, suspect_labels
from stillroom.evaluation.measures import (
    f1_estimate,
    macro_f1,
    overconfidence,
    proportion,
    score_classes,
    top_k,
)
from stillroom.report.mistakes import confused_pairs, mistakes_by_pair
from tests.train.toy import PATIENT
from train.data.images import LabelledImage
from train.evaluation import Predictions

COUNTS = st.integers(0, 300)


def make(logits: np.ndarray, targets: list[int], split: str = "test") -> Predictions:
    labels = tuple(f"c{k}" for k in range(logits.shape[1]))
    photos = [
        LabelledImage(f"{i:04d}.jpg", labels[t], split, f"{i:064x}") for i, t in enumerate(targets)
    ]
    return Predictions(photos, labels, logits.astype(np.float32))


def random_predictions(n: int = 400, classes: int = 12) -> tuple[Predictions, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, classes - 1, n)  # the last class has no image
    logits = rng.normal(0, 1, (n, classes)) + 1.5 * np.eye(classes)[targets]
    return make(logits, targets.tolist()), targets


def matrix(predictions: Predictions) -> np.ndarray:
    size = len(predictions.labels)
    confusion = np.zeros((size, size), dtype=np.int64)
    np.add.at(confusion, (predictions.targets, predictions.predicted), 1)
    return confusion


def test_scores_of_classes_are_those_of_scikit_learn():
    predictions, targets = random_predictions()
    scores = score_classes(matrix(predictions), predictions.labels)
    arguments = {"labels": list(range(12)), "average": None, "zero_division": 0.0}
    for name, function in (("precision", precision_score), ("recall", recall_score)):
        expected = function(targets, predictions.predicted, **arguments)
        values = [getattr(score, name).value or 0.0 for score in scores]
        assert values == pytest.approx(expected.tolist())
    expected = f1_score(targets, predictions.predicted, **arguments)
    assert [score.f1.value or 0.0 for score in scores] == pytest.approx(expected.tolist())
    assert [score.n for score in scores] == [(targets == k).sum() for k in range(12)]
    assert scores[11].recall.value is None  # no image: a figure that does not exist is not a zero


def test_mean_f1_is_that_of_scikit_learn_and_repeats():
    predictions, targets = random_predictions()
    estimate = macro_f1(matrix(predictions))
    present = sorted({*targets.tolist(), *predictions.predicted.tolist()})
    expected = f1_score(targets, predictions.predicted, labels=present, average="macro")
    assert estimate.value == pytest.approx(expected)
    assert estimate.low < estimate.value < estimate.high
    assert macro_f1(matrix(predictions)) == estimate
    assert macro_f1(matrix(predictions), seed=1) != estimate


def test_the_bootstrap_has_the_spread_of_the_binomial():
    """Two classes that are confused evenly: F1 is the share right, whose spread is known."""
    estimate = macro_f1(np.array([[450, 50], [50, 450]]))
    reach = 1.96 * (0.9 * 0.1 / 1000) ** 0.5
    assert (estimate.low, estimate.high) == pytest.approx((0.9 - reach, 0.9 + reach), abs=0.004)


def test_many_small_classes_do_not_push_the_mean_out_of_its_interval():
    rng = np.random.default_rng(0)
    confusion = np.zeros((500, 500), dtype=np.int64)
    np.add.at(confusion, (rng.integers(0, 500, 2000), rng.integers(0, 500, 2000)), 1)
    confusion[np.diag_indices(500)] += rng.integers(0, 5, 500)
    estimate = macro_f1(confusion)
    assert estimate.low < estimate.value < estimate.high


def test_truth_among_the_best_k():
    predictions, targets = random_predictions()
    shares = top_k(predictions, targets)
    assert [k for k, _ in shares] == [1, 3, 5, 10]
    for k, share in shares:
        expected = top_k_accuracy_score(targets, predictions.logits, k=k, labels=list(range(12)))
        assert share.value == pytest.approx(expected)


def test_equal_logits_go_to_the_first_class_as_in_argmax():
    predictions = make(np.zeros((2, 2)), [0, 1])
    ((k, share),) = top_k(predictions, predictions.targets)
    assert (k, share.value) == (1, 0.5)


@pytest.mark.parametrize(
    # J = 8 / 12; Wilson of 8 of 12 is 0.3906 to 0.8619; F1 = 2 J / (1 + J)
    ("counts", "expected"),
    [((8, 3, 1), (0.8, 0.5618, 0.9258)), ((0, 2, 2), (0.0, 0.0, 0.6577))],
)
def test_the_interval_of_f1_by_hand(counts, expected):
    estimate = f1_estimate(*counts)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(expected, abs=1e-4)


@PATIENT
@given(COUNTS, COUNTS, COUNTS)
def test_intervals_hold_their_figure_and_stay_in_range(right, wrongly, missed):
    if right + wrongly + missed == 0:
        assert f1_estimate(right, wrongly, missed).value is None
        return
    estimate = f1_estimate(right, wrongly, missed)
    assert 0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1
    more = f1_estimate(10 * right, 10 * wrongly, 10 * missed)
    assert more.high - more.low < estimate.high - estimate.low


def test_the_interval_of_f1_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    shares = (0.55, 0.2, 0.1, 0.15)  # TP, FP, FN, TN
    truth = 2 * 0.55 / (2 * 0.55 + 0.2 + 0.1)
    draws = rng.multinomial(60, shares, size=2000)
    inside = [
        (e := f1_estimate(int(tp), int(fp), int(fn))).low <= truth <= e.high
        for tp, fp, fn, _ in draws
    ]
    assert 0.93 < np.mean(inside) < 0.97


def test_a_share_of_nothing_is_no_figure():
    assert proportion(0, 0).value is None


@pytest.mark.parametrize(("scale", "side"), [(8.0, 1), (0.6, -1)])
def test_overconfidence_has_the_right_sign(scale, side):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (500, 4))
    chances = softmax(logits, axis=1)
    targets = [int(rng.choice(4, p=row)) for row in chances]  # calibrated at scale 1
    gap = overconfidence(make(scale * logits, targets), np.array(targets))
    assert side * gap.value > 0
    assert min(side * gap.low, side * gap.high) > 0
    fair = overconfidence(make(logits, targets), np.array(targets))
    assert fair.low < 0 < fair.high


def test_confident_classes_by_hand():
    """Thresholds 0.8 and 0.65: the third image reaches both, the fourth none."""
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.82, 0.68], [0.5, 0.5], [0.38, 0.62]])
    probabilities[2] = [0.82, 0.68]
    targets = np.array([0, 1, 0, 0, 1])
    thresholds = [np.mean([0.9, 0.82, 0.5]), np.mean([0.7, 0.62])]
    assert thresholds == pytest.approx([0.74, 0.66])
    assert confident_classes(probabilities, targets).tolist() == [0, 1, 0, -1, -1]


def test_a_class_without_images_counts_none():
    probabilities = np.array([[0.1, 0.0, 0.9], [0.2, 0.8, 0.0]])
    assert confident_classes(probabilities, np.array([0, 1])).tolist() == [0, 1]


def planted(split: str = "test") -> Predictions:
    """200 images of two classes, well told apart; number 7 has the other's label."""
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    logits = np.stack([2.0 - 4 * truth, 4 * truth - 2.0], axis=1) + rng.normal(0, 0.7, (200, 2))
    logits[7] = [-4.0, 4.0]
    targets = truth.copy()
    targets[7] = 0
    return make(logits, targets.tolist(), split)


def test_a_planted_label_error_is_ranked_first():
    issues = suspect_labels(planted())
    assert issues[0].photo.path == "0007.jpg"
    assert (issues[0].photo.label, issues[0].suggestion) == ("c0", "c1")
    assert issues[0].self_confidence + issues[0].probability == pytest.approx(1)
    assert [issue.margin for issue in issues] == sorted(issue.margin for issue in issues)
    assert len(issues) < 5


def test_training_images_are_never_suspected():
    assert suspect_labels(planted("train")) == []
    assert suspect_labels(planted("val"))


@PATIENT
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.floats(-9, 9, width=32)
    ),
    st.randoms(use_true_random=False),
)
def test_what_is_answered_as_labelled_is_never_suspected(logits, random):
    targets = [random.randrange(3) for _ in logits]
    predictions = make(logits, targets)
    wrong = {
        photo.path
        for photo, answer, target in zip(
            predictions.photos, predictions.predicted, targets, strict=True
        )
        if answer != target
    }
    assert {issue.photo.path for issue in suspect_labels(predictions)} <= wrong


def test_galleries_hold_the_most_confident_of_each_pair():
    predictions, _ = random_predictions()
    pairs = confused_pairs(matrix(predictions).tolist(), list(predictions.labels), 3)
    for pair, mistakes in mistakes_by_pair(predictions, pairs, 2):
        chances = softmax(predictions.logits.astype(float), axis=1)
        answer, truth = (predictions.labels.index(x) for x in (pair.answer, pair.label))
        those = (predictions.predicted == answer) & (predictions.targets == truth)
        assert those.sum() == pair.count
        expected = sorted(chances[those, answer], reverse=True)[:2]
        assert [one.probability for one in mistakes] == pytest.approx(expected)

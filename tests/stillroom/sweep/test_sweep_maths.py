from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.sweep.backbones.budget import fitting_epochs
from stillroom.sweep.learning_curve.facts import read_curve
from stillroom.sweep.learning_curve.power_law import EXPONENTS, fit_power_law
from stillroom.sweep.learning_curve.run import scaled
from stillroom.sweep.learning_curve.subsets import subset
from stillroom.sweep.speed import busy_notice
from tests.train.toy import FAST, PATIENT, toy_photos
from train.data.dataset import Dataset

COUNTS = np.array([100.0, 250.0, 500.0, 1000.0])


@PATIENT
@given(st.floats(0.01, 0.3), st.sampled_from(list(EXPONENTS)), st.floats(0, 0.3))
def test_a_power_law_is_found_again(scale, exponent, floor):
    errors = scale * (COUNTS / 1000) ** -exponent + floor
    fit = fit_power_law(COUNTS, errors[None, :])
    expected = scale * 2.0**-exponent + floor
    assert fit.error(np.array([2000.0]))[0, 0] == pytest.approx(expected, abs=1e-6)
    assert fit.error(COUNTS)[0] == pytest.approx(errors, abs=1e-6)


@PATIENT
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_any_errors_give_a_curve_that_falls_and_stays_positive(errors):
    fit = fit_power_law(COUNTS, np.array([errors]))
    curve = fit.error(np.array([*COUNTS, 2000.0, 1e9]))[0]
    assert (np.diff(curve) <= 1e-12).all()
    assert (curve >= 0).all()


def test_each_row_is_fitted_alone():
    rows = np.random.default_rng(0).uniform(0, 0.5, (7, 4))
    together = fit_power_law(COUNTS, rows)
    for i, row in enumerate(rows):
        alone = fit_power_law(COUNTS, row[None, :])
        assert together.error(COUNTS)[i] == pytest.approx(alone.error(COUNTS)[0])


def test_two_counts_are_no_curve():
    with pytest.raises(ValueError, match="three or more"):
        fit_power_law(COUNTS[:2], np.zeros((1, 2)))


def hits_at(*accuracies: float, n: int = 400, seeds: int = 3) -> np.ndarray:
    """Right predictions of nested sets of images: the better training has all of the worse."""
    order = np.random.default_rng(1).permutation(n)
    hits = np.zeros((len(accuracies), seeds, n), dtype=bool)
    for level, accuracy in enumerate(accuracies):
        for seed in range(seeds):
            hits[level, seed, order[: round(accuracy * n) + seed]] = True
    return hits


def curve_at(*accuracies: float, n: int = 400, seeds: int = 3):
    return read_curve((0.1, 0.25, 0.5, 1.0), (100, 250, 500, 1000), hits_at(*accuracies, n=n))


def test_a_rising_curve_says_that_more_would_help():
    curve = curve_at(0.5, 0.62, 0.71, 0.78)
    assert curve.answer == "yes"
    assert 0.02 < curve.gain.low <= curve.gain.value <= curve.gain.high < 0.12
    assert curve.doubled.value == pytest.approx(
        curve.levels[-1].top1.value + curve.gain.value, abs=0.01
    )
    assert curve.sentences()[0].startswith("Yes, more images would help: 2\u202f000")


def test_a_flat_curve_says_that_more_would_hardly_help():
    curve = curve_at(0.75, 0.85, 0.853, 0.853)
    assert curve.answer == "hardly"
    assert curve.gain.high < 0.01


def test_few_photographs_of_val_cannot_tell():
    curve = curve_at(0.6, 0.7, 0.7, 0.8, n=20)
    assert curve.answer == "perhaps"
    assert any("mistakes are left" in sentence for sentence in curve.sentences())


def test_no_mistakes_cannot_tell_and_the_interval_is_not_of_width_zero():
    curve = curve_at(1, 1, 1, 1)
    assert curve.answer == "perhaps"
    assert curve.levels[0].top1.low < 1


def test_one_seed_is_owned_up_to():
    one = read_curve((0.25, 0.5, 1.0), (1, 2, 4), hits_at(0.5, 0.6, 0.7, seeds=1))
    assert any("--seeds 3" in sentence for sentence in one.sentences())


def test_the_gain_is_of_the_same_photographs():
    """Nested answers differ by what is gained alone, so the interval is narrower than that of two
    independent proportions."""
    last = curve_at(0.5, 0.62, 0.71, 0.78).last
    assert last is not None
    independent = 1.96 * np.sqrt(0.71 * 0.29 / 400 + 0.78 * 0.22 / 400)
    assert (last.high - last.low) / 2 < 0.75 * independent


DATASET = Dataset(
    None,  # type: ignore[arg-type]
    [
        replace(photo, split="train" if i % 3 else "val")
        for i, photo in enumerate(toy_photos({"a": 60, "b": 30, "c": 9}))
    ],
)


@PATIENT
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 5))
def test_subsets_are_nested_and_stratified(one, two, seed):
    small, large = (subset(DATASET, fraction, seed) for fraction in sorted((one, two)))
    assert set(small.photos) <= set(large.photos) <= set(DATASET.photos)
    assert small.of_split("val") == DATASET.of_split("val")
    assert small.labels == DATASET.labels
    for label, count in (("a", 40), ("b", 20), ("c", 6)):
        taken = sum(photo.label == label for photo in large.of_split("train"))
        assert taken == np.ceil(max(one, two) * count)


def test_seeds_take_other_photographs():
    assert subset(DATASET, 0.5, 0).photos != subset(DATASET, 0.5, 1).photos
    assert subset(DATASET, 1.0, 0).photos == DATASET.photos


def test_equal_steps_repeat_few_photographs_more_often():
    options = replace(FAST, epochs=4, head_epochs=1, batch_size=32)
    few = scaled(options, 25, 100, "steps")
    assert (few.epochs, few.head_epochs, few.batch_size) == (12, 3, 25)  # 3 steps an epoch to 1
    assert scaled(options, 25, 100, "epochs") == replace(options, batch_size=25)
    assert scaled(options, 100, 100, "steps") == options


@PATIENT
@given(st.floats(0.1, 500), st.floats(0.1, 20), st.floats(0, 20), st.integers(0, 3))
def test_epochs_fit_into_the_budget(budget_s, epoch_s, start_up_s, head):
    epochs = fitting_epochs(
        budget_s, epoch_s=epoch_s, start_up_s=start_up_s, head_epochs=head, rounds=1
    )
    took_s = start_up_s + (head + epochs) * epoch_s
    assert epochs == 1 or took_s <= budget_s * 1.0001
    assert took_s + epoch_s > budget_s


def test_latencies_of_a_busy_machine_are_called_so():
    steady, shaky = {"q1_ms": 1.0, "q3_ms": 1.2}, {"q1_ms": 1.3, "q3_ms": 13.0}
    assert busy_notice([steady, steady]) == []
    (sentence,) = busy_notice([steady, shaky])
    assert "10.0 times" in sentence


def test_seeds_that_are_far_apart_are_called_unsettled():
    hits = hits_at(0.5, 0.6, 0.7)
    assert not any("not settled" in line for line in read_three(hits).sentences())
    hits[2, 0, :] = False
    assert any("not settled" in line for line in read_three(hits).sentences())


def read_three(hits):
    return read_curve((0.25, 0.5, 1.0), (25, 50, 100), hits)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from stillroom.ablation.paired import mcnemar_p, paired_difference

seeds_and_images = st.tuples(st.integers(1, 4), st.integers(5, 30), st.integers(0, 2**16))


def arms(seeds: int, images: int, random_seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(random_seed)
    first, second = random.random((2, seeds, images)) < 0.7
    return first, second


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    monkeypatch.setattr("stillroom.ablation.paired.DRAWS", 500)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seeds_and_images)
def test_swapping_the_arms_changes_the_sign_only(drawn):
    first, second = arms(*drawn)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.mean == pytest.approx(-back.mean)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p == back.p
    assert there.low <= there.mean + 1e-9
    assert there.mean <= there.high + 1e-9


def test_equal_arms_have_no_difference():
    right = np.random.default_rng(0).random((3, 50)) < 0.8
    gap = paired_difference(right, right)
    assert (gap.mean, gap.low, gap.high, gap.p) == (0, 0, 0, 1)


def test_seeds_that_agree_do_not_make_the_interval_narrower_than_the_images_allow():
    random = np.random.default_rng(1)
    first, second = random.random((2, 1, 400)) < 0.8
    one = paired_difference(first, second)
    copied = paired_difference(np.repeat(first, 5, 0), np.repeat(second, 5, 0))
    assert copied.high - copied.low == pytest.approx(one.high - one.low, rel=0.15)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    covered = 0
    for number in range(60):
        random = np.random.default_rng(number)
        hard = random.random(200)  # of images: both arms find the same ones hard
        first, second = (random.random((3, 200)) < share * hard for share in (0.9, 0.95))
        gap = paired_difference(first, second, seed=number)
        covered += gap.low <= 0.05 * 0.5 <= gap.high
    assert covered >= 52


def test_a_clear_difference_is_one():
    first = np.zeros((3, 100), dtype=bool)
    second = first.copy()
    second[:, :20] = True
    gap = paired_difference(first, second)
    assert gap.mean == pytest.approx(0.2)
    assert gap.low > 0.1
    assert gap.p < 1e-9


def test_mcnemar_is_the_exact_binomial_test():
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(7, 2) == pytest.approx(binomtest(7, 9).pvalue)
    assert mcnemar_p(10, 0) == pytest.approx(2 / 2**10)


def test_arms_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3\) and \(1, 4\) cannot be paired"):
        paired_difference(np.ones((1, 3), bool), np.ones((1, 4), bool))

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loadtest.result.binomial import beta_cdf, clopper_pearson, median_ranks, percentile_ranks


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_agrees_with_scipy(n: int, share: float, confidence: float) -> None:
    hits = round(share * n)
    expected = stats.binomtest(hits, n).proportion_ci(confidence, method="exact")
    found = clopper_pearson(hits, n, confidence)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.floats(0.01, 500), st.floats(0.01, 500), st.floats(0, 1))
def test_incomplete_beta_agrees_with_scipy(a: float, b: float, x: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-9)


def test_the_ends() -> None:
    assert clopper_pearson(0, 0) == (0, 1)
    assert clopper_pearson(0, 300)[1] == pytest.approx(0.0122, abs=1e-4)
    assert clopper_pearson(2_000_000, 2_000_000)[1] == 1
    with pytest.raises(ValueError, match="3 hits of 2 trials"):
        clopper_pearson(3, 2)


@given(st.integers(6, 400))
def test_median_ranks_are_as_sure_as_asked_and_no_wider(n: int) -> None:
    ranks = median_ranks(n)
    assert ranks is not None
    low, high = ranks
    assert low + high == n + 1
    assert stats.binom.cdf(low - 1, n, 0.5) <= 0.025 < stats.binom.cdf(low, n, 0.5)


def test_too_few_values_hold_no_median_for_sure() -> None:
    assert median_ranks(5) is None
    assert median_ranks(6) == (1, 6)
    assert median_ranks(0) is None


@given(st.integers(1, 3000), st.sampled_from([1.0, 25.0, 90.0, 99.0, 99.9]))
def test_ranks_of_a_percentile_are_as_near_as_the_confidence_allows(n: int, percentile: float):
    below = stats.binom(n, percentile / 100)  # how many values lie below it
    low, high = percentile_ranks(percentile, n)
    miss = 0.025 * (1 + 1e-9)
    assert low is None or below.cdf(low - 1) <= miss
    assert below.cdf(low or 0) > 0.025 * (1 - 1e-9)
    assert high is None or below.sf(high - 1) <= miss
    assert below.sf((high or n + 1) - 2) > 0.025 * (1 - 1e-9)


@given(st.integers(6, 500))
def test_the_median_is_a_percentile(n: int) -> None:
    assert percentile_ranks(50, n) == median_ranks(n)

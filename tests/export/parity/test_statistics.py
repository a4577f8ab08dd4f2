from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import beta, binomtest, false_discovery_control

from export.parity.statistics import (
    agreement_lower_bound,
    holm,
    images_to_show,
    mcnemar_p,
    paired_interval,
)
from tests.train.toy import PATIENT

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@PATIENT
@given(COUNTS)
def test_the_bound_is_that_of_scipy(counts: tuple[int, int]) -> None:
    agree, count = counts
    expected = beta.ppf(0.05, agree, count - agree + 1) if agree else 0.0
    assert agreement_lower_bound(agree, count) == pytest.approx(expected, rel=1e-10, abs=1e-15)


def test_the_bound_holds_for_many_images() -> None:
    for agree, count in ((99_990, 100_000), (50_000, 50_000)):
        expected = beta.ppf(0.05, agree, count - agree + 1)
        assert agreement_lower_bound(agree, count) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("agree", "count"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_share_has_no_bound(agree: int, count: int) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        agreement_lower_bound(agree, count)


@PATIENT
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test_of_scipy(lost: int, gained: int) -> None:
    expected = binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert mcnemar_p(lost, gained) == pytest.approx(expected, rel=1e-9)


@PATIENT
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_and_keeps_their_order(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)
    if values:  # stricter than the rate of false discoveries, milder than Bonferroni
        rate = false_discovery_control(values)
        assert all(q >= r - 1e-12 for q, r in zip(adjusted, rate, strict=True))
        assert min(adjusted) == pytest.approx(min(1, len(values) * min(values)))


def test_holm_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def likeliest_lost(lost: int, gained: int, count: int, change: float) -> float:
    """The share of lost images that is likeliest if `change` is the true change, by search."""

    def unlikely(share: float) -> float:
        others = 1 - 2 * share - change
        terms = ((gained, share + change), (lost, share), (count - lost - gained, others))
        return -sum(n * math.log(max(p, 1e-300)) for n, p in terms if n)

    low, high = max(0.0, -change), (1 - change) / 2
    found = minimize_scalar(unlikely, bounds=(low, high), options={"xatol": 1e-12})
    return float(min((found.x, low, high), key=unlikely))


@pytest.mark.parametrize(
    ("lost", "gained", "count"), [(40, 12, 500), (2, 4, 500), (0, 6, 300), (5, 5, 40)]
)
def test_the_ends_of_the_interval_solve_tangos_equation(lost: int, gained: int, count: int) -> None:
    def distance(change: float) -> float:
        share = likeliest_lost(lost, gained, count, change)
        variance = count * (2 * share + change - change**2)
        return float((gained - lost - count * change) / math.sqrt(variance))

    observed = (gained - lost) / count
    low, high = paired_interval(lost, gained, count)
    assert low == pytest.approx(brentq(lambda d: distance(d) - 1.96, -0.5, observed), abs=1e-5)
    assert high == pytest.approx(brentq(lambda d: distance(d) + 1.96, observed, 0.5), abs=1e-5)


@PATIENT
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 500))
def test_the_interval_holds_what_was_seen_and_is_symmetric(
    lost: int, gained: int, rest: int
) -> None:
    count = lost + gained + rest
    low, high = paired_interval(lost, gained, count)
    assert -1 <= low < (gained - lost) / count < high <= 1
    assert paired_interval(gained, lost, count) == pytest.approx((-high, -low), abs=1e-9)


def test_no_change_among_few_images_is_not_certainty() -> None:
    low, high = paired_interval(0, 0, 300)
    assert (low, high) == pytest.approx((-0.0126, 0.0126), abs=1e-4)
    assert paired_interval(3, 0, 3)[0] == -1
    assert paired_interval(0, 3, 3)[1] == 1
    with pytest.raises(ValueError, match="3 lost and 0 gained of 2 images"):
        paired_interval(3, 0, 2)


def test_the_images_that_would_show_a_share() -> None:
    count = images_to_show(0.97, 0.95)
    assert count == 386
    assert agreement_lower_bound(math.floor(0.97 * count), count) >= 0.95
    assert images_to_show(1.0, 0.99) == 299  # the rule of three
    assert images_to_show(0.95, 0.95) is None

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loadtest.result.trend import describe_trend, kendall_z, theil_sen
from tests.loadtest.hand_made import sample, steady, summary_of

numbers = st.lists(st.integers(-1000, 1000), min_size=4, max_size=20, unique=True)


@given(numbers)
def test_slope_agrees_with_scipy(values: list[int]) -> None:
    expected = stats.theilslopes(values, range(len(values))).slope
    assert theil_sen(list(enumerate(map(float, values)))) == pytest.approx(expected)


@given(numbers)
def test_a_reversed_series_falls_as_much_as_it_rose(values: list[int]) -> None:
    z = kendall_z(values)
    assert z is not None
    assert kendall_z(values[::-1]) == pytest.approx(-z)


def test_a_steady_service_does_not_rise() -> None:
    trend = describe_trend(steady(), 10.0)
    assert trend["requests"] == [20] * 10
    assert trend["p50_ms"] == pytest.approx([20] * 10)
    assert (trend["p50_slope_ms_per_min"], trend["rising"]) == (pytest.approx(0, abs=1e-6), False)


def test_a_service_that_slows_down_is_seen() -> None:
    samples = [sample(n / 20, 20 + n / 20) for n in range(200)]
    trend = describe_trend(samples, 10.0)
    assert trend["rising"]
    assert trend["p50_slope_ms_per_min"] == pytest.approx(60, rel=0.02)
    assert any("Latency rose" in text for text in summary_of(samples)["warnings"])


def test_nothing_has_no_trend() -> None:
    trend = describe_trend([], 0.0)
    assert (trend["p50_slope_ms_per_min"], trend["z"], trend["rising"]) == (None, None, False)

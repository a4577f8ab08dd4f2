from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.result.percentiles import (
    describe_ms,
    nearest_rank,
    rank_of_percentile,
    samples_needed,
)

latencies = st.lists(st.floats(0, 1e5), min_size=1, max_size=300)
tenths = st.integers(1, 1000)


@given(latencies, tenths)
def test_is_the_smallest_value_that_enough_do_not_exceed(values: list[float], tenth: int) -> None:
    value = nearest_rank(sorted(values), tenth / 10)
    n = len(values)
    assert sum(other <= value for other in values) * 1000 >= tenth * n
    assert sum(other < value for other in values) * 1000 < tenth * n


@given(latencies, tenths)
def test_agrees_with_numpy(values: list[float], tenth: int) -> None:
    if tenth * len(values) % 1000 == 0:
        return  # numpy's float product may fall on either side of a whole rank
    expected = np.percentile(values, tenth / 10, method="inverted_cdf")
    assert nearest_rank(sorted(values), tenth / 10) == expected


def test_decimals_are_exact() -> None:
    # 0.07 * 100 is 7.000000000000001 in floats, which would be rank 8.
    assert rank_of_percentile(7, 100) == 7
    assert rank_of_percentile(99.9, 1000) == 999


@pytest.mark.parametrize("percentile", [0, -1, 100.1, float("nan")])
def test_percentile_out_of_range(percentile: float) -> None:
    with pytest.raises(ValueError, match="not above 0 and at most 100"):
        rank_of_percentile(percentile, 10)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        nearest_rank([], 50)
    assert describe_ms([]) == {
        "n": 0,
        **dict.fromkeys(["p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms"]),
    }


def test_description_of_1_to_100() -> None:
    assert describe_ms([float(value) for value in range(100, 0, -1)]) == {
        "n": 100,
        "p50_ms": 50,
        "p90_ms": 90,
        "p95_ms": 95,
        "p99_ms": 99,
        "max_ms": 100,
        "mean_ms": 50.5,
    }


@pytest.mark.parametrize(("percentile", "n"), [(50, 2), (90, 10), (99, 100), (99.9, 1000)])
def test_samples_needed_tell_it_from_the_maximum(percentile: float, n: int) -> None:
    assert samples_needed(percentile) == n
    assert rank_of_percentile(percentile, n) < n
    assert rank_of_percentile(percentile, n - 1) == n - 1

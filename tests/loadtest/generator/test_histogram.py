from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.generator.histogram import RELATIVE_ERROR, LatencyHistogram
from loadtest.result.percentiles import nearest_rank

pytest.importorskip("hdrh", reason="the package hdrhistogram is not installed")

latencies = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60)


@given(latencies, st.integers(1, 1000))
def test_percentiles_are_those_of_the_values_within_a_bucket(
    values: list[float], tenth: int
) -> None:
    exact = nearest_rank(sorted(values), tenth / 10)
    found = LatencyHistogram.of(values).percentile_ms(tenth / 10)
    assert found == pytest.approx(exact, rel=RELATIVE_ERROR, abs=0.001)


@given(st.lists(latencies, min_size=1, max_size=4))
def test_merging_is_the_histogram_of_all_values_whatever_the_order(
    parts: list[list[float]],
) -> None:
    whole = LatencyHistogram.of(value for part in parts for value in part)
    merged = LatencyHistogram()
    for part in reversed(parts):
        merged.merge(LatencyHistogram(LatencyHistogram.of(part).encode()))
    assert merged.n == sum(map(len, parts))
    assert merged.encode() == whole.encode()


def test_a_value_out_of_range_counts_as_the_nearest_in_it() -> None:
    histogram = LatencyHistogram.of([0.0, 1e12])
    assert histogram.n == 2
    assert histogram.percentile_ms(50) == pytest.approx(0.001)
    assert histogram.percentile_ms(100) == pytest.approx(3.6e6, rel=0.001)


def test_an_empty_one_has_no_percentiles() -> None:
    described = LatencyHistogram().describe()
    assert (described["n"], described["p99_ms"]) == (0, None)

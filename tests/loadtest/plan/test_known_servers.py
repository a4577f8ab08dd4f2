"""Servers whose figures are known from theory, in virtual time: no luck, no sleeping."""

from __future__ import annotations

import math
from random import Random

import pytest

from loadtest.generator.outcome import Outcome, latencies_of
from loadtest.plan.schedule import poisson_times
from loadtest.result.binomial import clopper_pearson
from loadtest.result.percentiles import describe_ms, nearest_rank
from tests.loadtest.virtual import closed_loop, exponential, frozen_one_in_five, open_loop, queue

pytestmark = pytest.mark.e2e

SERVICE_S = 0.01


@pytest.mark.parametrize(("kind", "factor"), [("M/M/1", 1.0), ("M/D/1", 0.5)])
@pytest.mark.parametrize("load", [0.3, 0.5])
def test_mean_wait_is_that_of_pollaczek_and_khinchine(
    kind: str, factor: float, load: float
) -> None:
    service = exponential(SERVICE_S, 1) if kind == "M/M/1" else lambda: SERVICE_S
    times = poisson_times(rate=load / SERVICE_S, duration_s=200_000 * SERVICE_S / load, seed=1)
    samples = open_loop(times, queue(service))
    mean_ms = describe_ms(latencies_of(samples)["intended"])["mean_ms"]
    # At a load of 0.5 the mean of 200 000 waits has a standard error of 1.2 % (M/M/1).
    expected_s = factor * load / (1 - load) * SERVICE_S
    assert mean_ms / 1000 - SERVICE_S == pytest.approx(expected_s, rel=0.05)


def test_quantiles_of_the_time_in_an_mm1_queue_are_exponential() -> None:
    times = poisson_times(rate=0.5 / SERVICE_S, duration_s=4000, seed=3)
    samples = open_loop(times, queue(exponential(SERVICE_S, 3)))
    ascending = sorted(latencies_of(samples)["intended"])
    for percentile in (50, 90, 99):
        expected_ms = -math.log(1 - percentile / 100) * SERVICE_S * 1000 / 0.5
        assert nearest_rank(ascending, percentile) == pytest.approx(expected_ms, rel=0.05)


def test_a_freeze_shows_in_an_open_loop_and_hides_in_a_closed_one() -> None:
    """A fifth of all arrivals wait evenly up to 1 s, so that a tenth wait more than 0.5 s."""
    server = frozen_one_in_five(0.006)
    opened = open_loop(poisson_times(rate=60, duration_s=500, seed=2), server)
    closed = closed_loop(4, 100, server)
    p90_ms = nearest_rank(sorted(latencies_of(opened)["intended"]), 90)
    assert p90_ms == pytest.approx(506, abs=15)
    assert nearest_rank(sorted(latencies_of(closed)["intended"]), 90) == pytest.approx(6)


def test_the_interval_of_1_percent_errors_covers_them() -> None:
    """Exact intervals of 95 % hold the true share in 95 of 100 runs, or more often."""
    covered = 0
    for seed in range(400):
        random = Random(seed)
        failed = sum(random.random() < 0.01 for _ in range(1000))
        low, high = clopper_pearson(failed, 1000, 0.95)
        covered += low <= 0.01 <= high
    assert covered >= 0.94 * 400


def test_every_arrival_is_a_sample() -> None:
    times = poisson_times(rate=50, duration_s=100, seed=5)
    samples = open_loop(times, queue(lambda: SERVICE_S))
    assert [sample.planned_s for sample in samples] == times
    assert {sample.outcome for sample in samples} == {Outcome.OK}

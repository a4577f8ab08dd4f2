from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.extras.scaling.usl import Usl, fit_usl

USERS = (1, 2, 4, 8, 16, 32, 64)


@given(st.floats(1, 1e4), st.floats(0, 0.9), st.floats(0, 0.05))
def test_finds_the_law_that_made_the_points(
    rate: float, contention: float, coherency: float
) -> None:
    law = Usl(rate, contention, coherency, 1.0)
    found = fit_usl([(users, law.throughput(users)) for users in USERS])
    assert found is not None
    assert found.rate == pytest.approx(rate, rel=1e-4)
    assert found.contention == pytest.approx(contention, abs=1e-4)
    assert found.coherency == pytest.approx(coherency, abs=1e-5)


def test_the_peak_is_where_more_clients_bring_less() -> None:
    law = Usl(100, 0.05, 0.001, 1.0)
    peak = law.throughput(law.peak_users)
    assert law.peak_users == pytest.approx(math.sqrt(0.95 / 0.001))
    assert law.throughput(law.peak_users * 0.9) < peak > law.throughput(law.peak_users * 1.1)
    assert law.knee_users == pytest.approx(peak / 100)


def test_a_queue_of_one_server_tends_to_its_capacity() -> None:
    """Contention 1 is a server that does one thing at a time: no client adds anything."""
    law = Usl(100, 1.0, 0.0, 1.0)
    assert law.throughput(50) == pytest.approx(100)
    assert law.peak_rps == 100


def test_better_than_perfect_scaling_is_held_to_perfect() -> None:
    found = fit_usl([(1, 100), (2, 210), (4, 430)])
    assert found is not None
    assert (found.contention, found.coherency) == (0, 0)
    assert found.peak_users == found.peak_rps == math.inf


def test_two_numbers_of_clients_fit_any_law() -> None:
    assert fit_usl([(1, 100), (2, 190), (2, 200)]) is None

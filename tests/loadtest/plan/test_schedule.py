from __future__ import annotations

import math
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.plan.schedule import REPEAT_AFTER, Segment, image_picks, poisson_times

rates = st.floats(0.1, 200)
durations = st.floats(0.1, 5)
seeds = st.integers(0, 2**32)
PINNED_TIMES = [0.04263779941868996, 0.18637642786050707]


@given(rates, durations, seeds)
def test_times_ascend_inside_the_window(rate: float, duration_s: float, seed: int) -> None:
    times = poisson_times(rate=rate, duration_s=duration_s, seed=seed)
    assert all(0 <= time < duration_s for time in times)
    assert all(earlier <= later for earlier, later in pairwise(times))


@given(rates, durations, durations, seeds)
def test_a_longer_run_only_appends(rate: float, one_s: float, other_s: float, seed: int) -> None:
    short, long = (
        poisson_times(rate=rate, duration_s=duration_s, seed=seed)
        for duration_s in sorted((one_s, other_s))
    )
    assert long[: len(short)] == short


def test_gaps_are_exponential() -> None:
    times = poisson_times(rate=100, duration_s=100, seed=1)
    gaps = sorted(later - earlier for earlier, later in pairwise([0.0, *times]))
    n = len(gaps)
    distance = max(abs((i + 0.5) / n - (1 - math.exp(-100 * gap))) for i, gap in enumerate(gaps))
    assert n == pytest.approx(10_000, abs=300)
    # Kolmogorov-Smirnov: above 1.63 / sqrt(n) has a chance of 1 %; the seed is fixed.
    assert distance < 1.63 / math.sqrt(n)


def test_the_same_gaps_on_every_python() -> None:
    times = poisson_times(rate=10, duration_s=1, seed=0)
    assert times[:2] == pytest.approx(PINNED_TIMES, abs=1e-12)


@pytest.mark.parametrize(("rate", "duration_s"), [(0, 1), (-1, 1), (math.nan, 1), (1, 0)])
def test_nonsense_is_refused(rate: float, duration_s: float) -> None:
    with pytest.raises(ValueError, match="must both be above 0"):
        poisson_times(rate=rate, duration_s=duration_s, seed=0)


@given(st.integers(1, 50), seeds)
def test_picks_stay_in_the_corpus_and_repeat(images: int, seed: int) -> None:
    first, again = (list(islice(image_picks(images=images, seed=seed), 40)) for _ in range(2))
    assert first == again
    assert all(0 <= pick < images for pick in first)


def test_users_have_their_own_picks() -> None:
    one, two = (list(islice(image_picks(images=99, seed=0, user=user), 20)) for user in (0, 1))
    assert one != two


@given(rates, rates, durations, st.floats(0, 1))
def test_the_time_of_a_count_is_where_the_rate_has_summed_to_it(
    begin: float, end: float, duration_s: float, part: float
) -> None:
    segment = Segment(duration_s, begin, end)
    time_s = segment.time_of(part * segment.requests)
    slope = (end - begin) / duration_s
    assert begin * time_s + slope * time_s**2 / 2 == pytest.approx(part * segment.requests)
    assert -1e-9 <= time_s <= duration_s * (1 + 1e-9)


def test_a_rate_from_nothing() -> None:
    assert Segment(10, 0, 2).time_of(10) == pytest.approx(10)
    assert Segment(10, 2, 0).time_of(10) == pytest.approx(10)
    with pytest.raises(ValueError, match="must both be above 0"):
        Segment(10, 0, 0)


@given(st.integers(20, 200), seeds, st.floats(0.05, 0.5))
def test_repeats_come_shortly_after_the_first_sending(images: int, seed: int, share: float) -> None:
    picks = list(islice(image_picks(images=images, seed=seed, repeat_share=share), images))
    seen: dict[int, int] = {}
    for place, pick in enumerate(picks):
        if pick in seen:
            assert place - seen[pick] <= 3 * REPEAT_AFTER
        seen.setdefault(pick, place)
    assert max(picks.count(pick) for pick in set(picks)) <= 2


def test_as_many_repeats_as_asked_for() -> None:
    picks = list(islice(image_picks(images=10_000, seed=0, repeat_share=0.3), 10_000))
    assert 1 - len(set(picks)) / len(picks) == pytest.approx(0.3, abs=0.02)

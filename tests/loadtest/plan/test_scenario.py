from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import UsageError
from loadtest.plan.scenario import RATE_SCENARIOS, read_recorded, scenario_times, segments_of

scenarios = st.sampled_from(RATE_SCENARIOS)
ARGUMENTS = {"rate": 100.0, "duration_s": 60.0, "warmup_s": 2.0, "seed": 7}


@given(scenarios, st.floats(0.5, 200), st.floats(0.5, 20), st.integers(1, 4))
def test_times_are_inside_the_window_in_order(
    scenario: str, rate: float, duration_s: float, workers: int
) -> None:
    for worker in range(workers):
        times = scenario_times(
            scenario,
            rate=rate,
            duration_s=duration_s,
            warmup_s=1.0,
            seed=1,
            worker=worker,
            workers=workers,
        )
        assert all(-1 <= time < duration_s for time in times)
        assert all(earlier <= later for earlier, later in pairwise(times))


@pytest.mark.parametrize("scenario", RATE_SCENARIOS)
def test_as_many_requests_as_the_rate_says(scenario: str) -> None:
    times = [time for time in scenario_times(scenario, **ARGUMENTS) if time >= 0]
    expected = sum(s.requests for s in segments_of(scenario, rate=100, duration_s=60))
    assert len(times) == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_a_ramp_rises_to_the_rate() -> None:
    times = [time for time in scenario_times("ramp", **ARGUMENTS) if time >= 0]
    first, last = (sum(at <= time < at + 6 for time in times) / 6 for at in (0, 54))
    assert first == pytest.approx(10 + 90 * 3 / 60, abs=5)
    assert last == pytest.approx(100 - 90 * 3 / 60, abs=13)


def test_a_spike_is_three_times_the_rate_in_its_middle_fifth() -> None:
    times = scenario_times("spike", **ARGUMENTS)
    rates = [sum(at <= time < at + 12 for time in times) / 12 for at in (0, 24, 48)]
    assert rates == pytest.approx([100, 300, 100], rel=0.12)


def test_constant_arrivals_are_shared_without_overlap() -> None:
    arguments = {**ARGUMENTS, "warmup_s": 0.0}
    whole = scenario_times("constant", **arguments)
    shares = [scenario_times("constant", **arguments, worker=w, workers=3) for w in range(3)]
    assert sorted(time for share in shares for time in share) == whole
    assert whole[:3] == [0.0, 0.01, 0.02]


def test_shares_of_a_poisson_process_are_together_one() -> None:
    """Kolmogorov-Smirnov on the merged gaps; a chance of 1 % to fail, with a fixed seed."""
    shares = [scenario_times("server", **ARGUMENTS, worker=w, workers=4) for w in range(4)]
    merged = sorted(time for share in shares for time in share)
    gaps = sorted(later - earlier for earlier, later in pairwise(merged))
    n = len(gaps)
    distance = max(abs((i + 0.5) / n - (1 - math.exp(-100 * gap))) for i, gap in enumerate(gaps))
    assert n == pytest.approx(6200, abs=300)
    assert distance < 1.63 / math.sqrt(n)
    assert len({tuple(share) for share in shares}) == 4


def test_even_gaps_are_not_taken_for_exponential_ones() -> None:
    times = scenario_times("constant", **ARGUMENTS)
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    n = len(gaps)
    distance = max(abs((i + 0.5) / n - (1 - math.exp(-100 * gap))) for i, gap in enumerate(gaps))
    assert distance > 1.63 / math.sqrt(n)


def test_recorded_arrivals_begin_at_0_and_are_sorted(tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    file.write_text("id,time_s\na,1700000002.5\nb,1700000000\nc,1700000001\n")
    assert read_recorded(file) == (0.0, 1.0, 2.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time\n1\n", "has no column 'time_s'; let its first line be time_s"),
        ("time_s\nsoon\n", "line 2: 'soon' is not a number of seconds; correct or remove"),
        ("time_s\nnan\n", "line 2: 'nan' is not a number"),
        ("time_s\n", "holds no arrivals"),
    ],
)
def test_recorded_errors(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_recorded(file)
    assert message in str(caught.value)


def test_a_recording_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recorded(Path("absent.csv"))

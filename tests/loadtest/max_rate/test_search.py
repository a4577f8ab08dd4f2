"""The search, against simulated servers whose largest rate is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from loadtest.max_rate.search import RateTrial, find_max_rate, requests_wanted
from loadtest.result.binomial import at_most

ALLOWED = 0.01


class Queue:
    """M/M/1 in virtual time: p99 <= target holds up to service_rate - ln(100) / target."""

    def __init__(self, service_rate: float, target_s: float, seed: int = 0) -> None:
        self.service_rate, self.target_s = service_rate, target_s
        self.random = np.random.default_rng(seed)
        self.calls = 0

    @property
    def largest(self) -> float:
        return self.service_rate - math.log(100) / self.target_s

    def __call__(self, rate: float, times: int) -> RateTrial:
        self.calls += 1
        n = max(2000, requests_wanted(ALLOWED)) * times
        gaps = self.random.exponential(1 / rate, n)
        work = self.random.exponential(1 / self.service_rate, n)
        waits = np.zeros(n)
        for i in range(1, n):
            waits[i] = max(0.0, waits[i - 1] + work[i - 1] - gaps[i])
        slow = int((waits + work > self.target_s).sum())
        return RateTrial(rate, n, slow)


@given(st.integers(0, 40), st.integers(41, 3000), st.sampled_from([0.001, 0.01, 0.05, 0.5]))
def test_tails_are_those_of_the_binomial(slow: int, n: int, share: float) -> None:
    assert at_most(slow, n, share) == pytest.approx(binom.cdf(slow, n, share), abs=1e-9)
    more = 1 - at_most(slow - 1, n, share)
    assert more == pytest.approx(binom.sf(slow - 1, n, share), abs=1e-9)


def test_what_a_probe_shows() -> None:
    assert RateTrial(1, 298, 0).verdict(ALLOWED) == "inconclusive"
    assert RateTrial(1, 299, 0).verdict(ALLOWED) == "passed"  # the rule of three
    assert RateTrial(1, 1000, 10).verdict(ALLOWED) == "inconclusive"
    assert RateTrial(1, 1000, 20).verdict(ALLOWED) == "failed"
    assert RateTrial(1, 1000, 0, steady=False).verdict(ALLOWED) == "failed"
    assert RateTrial(1, 1000, 0, problem="late").verdict(ALLOWED) == "invalid"
    assert requests_wanted(ALLOWED) == 3 * 299


def test_luck_is_seldom_promised() -> None:
    """Of a service of which just the allowed share is slow at every rate, over whole searches.

    A search looks at some twenty rates, at some of them twice; three confirmations outweigh that.
    """

    def searched(seed: int) -> float:
        random = np.random.default_rng(seed)

        def measure(rate: float, times: int) -> RateTrial:
            n = requests_wanted(ALLOWED) * times
            return RateTrial(rate, n, int(random.binomial(n, ALLOWED)))

        return find_max_rate(measure, allowed=ALLOWED, first=100).rate

    assert sum(searched(seed) > 0 for seed in range(500)) <= 0.01 * 500


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("first", [3.0, 60.0, 900.0])
def test_the_rate_of_a_queue_is_found_from_anywhere(seed: int, first: float) -> None:
    queue = Queue(service_rate=200, target_s=0.05, seed=seed)
    found = find_max_rate(queue, allowed=ALLOWED, first=first)
    assert found.note == ""
    assert 0.7 * queue.largest < found.rate <= 1.05 * queue.largest
    assert found.refused is not None
    assert 1 < found.refused / found.rate < 1.5
    assert [verdict for _, verdict in found.probes][-1] == "passed"
    assert queue.calls < 41


def test_a_server_slowed_by_a_fifth_is_told_apart() -> None:
    fast = [
        find_max_rate(Queue(200, 0.05, seed), allowed=ALLOWED, first=50).rate for seed in range(4)
    ]
    slow = [
        find_max_rate(Queue(160, 0.05, seed), allowed=ALLOWED, first=50).rate for seed in range(4)
    ]
    assert max(slow) < min(fast)


def test_where_nothing_holds_nothing_is_promised() -> None:
    found = find_max_rate(lambda rate, times: RateTrial(rate, 1000, 500), allowed=ALLOWED, first=64)
    assert (found.rate, found.note) == (0.0, "")
    assert found.refused == 1.0


def test_where_everything_holds_the_highest_rate_is_promised_as_such() -> None:
    found = find_max_rate(
        lambda rate, times: RateTrial(rate, 1000, 0), allowed=ALLOWED, first=10, highest=500
    )
    assert (found.rate, found.refused) == (500, None)


def test_a_generator_at_its_limit_is_said_beside_the_promise() -> None:
    def measure(rate: float, times: int) -> RateTrial:
        return RateTrial(rate, 1000, 0, problem="the generator sent late" if rate > 100 else "")

    found = find_max_rate(measure, allowed=ALLOWED, first=40)
    assert 95 < found.rate <= 100
    assert "requests/s the generator sent late" in found.limit
    assert found.note == ""


def test_a_generator_at_its_limit_far_above_is_not_said() -> None:
    def measure(rate: float, times: int) -> RateTrial:
        slow, problem = (500 if rate > 60 else 0), ("sent late" if rate > 150 else "")
        return RateTrial(rate, 1000, slow, problem=problem)

    found = find_max_rate(measure, allowed=ALLOWED, first=40)
    assert found.probes[1][1] == "failed"
    found = find_max_rate(measure, allowed=ALLOWED, first=50)
    assert 57 < found.rate <= 60
    assert found.limit == ""


def test_a_load_that_rounds_its_rate_is_found_again() -> None:
    """As the command line does, with six digits: what failed is not the generator's limit."""

    def measure(rate: float, times: int) -> RateTrial:
        rounded = float(f"{rate:g}")
        late = "the generator sent late" if rate > 1000 else ""
        return RateTrial(rounded, 9000 * times, 0 if rate < 850 else 900, problem=late)

    found = find_max_rate(measure, allowed=ALLOWED, first=524.1254321)
    assert 805 < found.rate < 850 < found.refused < 1000
    assert "failed" in found.verdicts_at(found.refused)
    assert found.limit == ""


def test_a_generator_that_is_always_late_is_why_there_is_no_promise() -> None:
    found = find_max_rate(
        lambda rate, times: RateTrial(rate, 1000, 0, problem="sent late"), allowed=ALLOWED, first=8
    )
    assert found.rate == 0
    assert found.note == "at 2 requests/s sent late, and no better at higher ones: free the machine"
    assert len(found.probes) == 6


def test_a_machine_that_is_busy_now_and_then_costs_probes_and_no_rate() -> None:
    """Two of three probes are late, at rates that the generator can offer."""
    calls = 0

    def measure(rate: float, times: int) -> RateTrial:
        nonlocal calls
        calls += 1
        busy = calls > 4 and calls % 3
        return RateTrial(rate, 1000, 0 if rate <= 100 else 900, problem="sent late" if busy else "")

    found = find_max_rate(measure, allowed=ALLOWED, first=40)
    assert 95 < found.rate <= 100


def test_what_is_not_shown_is_asked_again_longer_and_then_not_promised() -> None:
    asked: list[tuple[float, int]] = []

    def measure(rate: float, times: int) -> RateTrial:
        asked.append((rate, times))
        return RateTrial(rate, 1000, 9 if rate > 10 else 0)

    found = find_max_rate(measure, allowed=ALLOWED, first=20)
    assert asked[:2] == [(20, 1), (20, 3)]
    assert found.rate < 10.01


def test_one_pause_of_the_machine_decides_nothing_but_in_a_confirmation() -> None:
    """A tenth of a second in ten is 1 % of the requests, at whatever rate it comes."""
    paused: list[float] = []

    def measure(rate: float, times: int) -> RateTrial:
        pause = 0.015 if rate in pauses_at and rate not in paused else 0.0
        paused.extend([rate] if pause else [])
        n = int(10 * rate * times)
        return RateTrial(rate, n, n if rate > 850 else int(n * pause), steady=rate <= 850)

    pauses_at: tuple[float, ...] = ()
    calm = find_max_rate(measure, allowed=ALLOWED, first=500)
    pauses_at = (500, math.sqrt(500 * 1000))
    disturbed = find_max_rate(measure, allowed=ALLOWED, first=500)
    assert paused == list(pauses_at)
    assert (disturbed.rate, disturbed.refused) == (calm.rate, calm.refused)


def test_a_service_that_fails_altogether_is_not_asked_twice() -> None:
    found = find_max_rate(
        lambda rate, times: RateTrial(rate, 1000 * times, 0 if rate <= 100 else 1000 * times),
        allowed=ALLOWED, first=1000,
    )  # fmt: skip
    assert 95 < found.rate <= 100
    failed = [probe.rate for probe, verdict in found.probes if verdict == "failed"]
    assert len(failed) == len(set(failed))


def test_a_failure_that_the_generator_could_not_repeat_is_its_limit() -> None:
    def measure(rate: float, times: int) -> RateTrial:
        if rate <= 10:
            return RateTrial(rate, 900 * times, 0)
        return (
            RateTrial(rate, 900, 30)
            if times == 1
            else RateTrial(rate, 2700, 0, problem="sent late")
        )

    found = find_max_rate(measure, allowed=ALLOWED, first=8)
    assert 9 < found.rate <= 10
    assert "sent late" in found.limit


def test_a_rate_that_is_not_confirmed_is_refused() -> None:
    asked: list[float] = []

    def measure(rate: float, times: int) -> RateTrial:
        asked.append(rate)
        fails = rate > 100 or (rate > 90 and asked.count(rate) == 3)
        return RateTrial(rate, 1000, 100 if fails else 0)

    found = find_max_rate(measure, allowed=ALLOWED, first=40)
    assert 80 < found.rate <= 90
    assert found.refused is not None
    assert found.refused > 90
    assert [probe.rate for probe, _ in found.probes[-3:]] == [found.rate] * 3


def test_a_server_that_is_never_the_same_gets_no_promise() -> None:
    random = np.random.default_rng(0)
    found = find_max_rate(
        lambda rate, times: RateTrial(rate, 1000, int(random.choice([0, 50]))),
        allowed=ALLOWED,
        first=40,
    )
    assert found.rate < 40 or found.note

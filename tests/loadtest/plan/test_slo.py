from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import UsageError
from loadtest.generator.outcome import Outcome, Sample
from loadtest.plan.slo import Slo, slo_from_text


def sample(latency_ms: float, outcome: Outcome = Outcome.OK) -> Sample:
    return Sample(
        planned_s=0, sent_s=0, done_s=latency_ms / 1000, outcome=outcome, path="", size_bytes=1
    )


@pytest.mark.parametrize(
    ("text", "percentile", "target_ms"),
    [("p99=50ms", 99, 50), ("p99.9=1.5s", 99.9, 1500), (" p50=20ms ", 50, 20)],
)
def test_forms(text: str, percentile: float, target_ms: float) -> None:
    assert slo_from_text(text) == Slo(percentile=percentile, target_ms=target_ms)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p99=50", "--slo 'p99=50' has no unit; write p99=50ms or p99=50s"),
        ("p99=50us", "the unit 'us' is not ms or s"),
        ("99=50ms", "is not PERCENTILE=LIMIT; write it as --slo p99=50ms"),
        ("p100=50ms", "p100 is not between 0 and 100"),
        ("p0=50ms", "p0 is not between 0 and 100"),
        ("p99=0ms", "the limit must be above 0"),
        ("", "is not PERCENTILE=LIMIT"),
    ],
)
def test_what_is_wrong_with_it(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        slo_from_text(text)
    assert message in str(caught.value)


def test_observed_is_the_nearest_rank() -> None:
    samples = [sample(latency_ms) for latency_ms in range(1, 101)]
    assert Slo(99, 50).observed_ms(samples) == pytest.approx(99)


@pytest.mark.parametrize(
    ("fast", "slow", "met"),
    [
        (99, 1, True),
        (98, 2, False),
        (99, 0, None),  # the next one may be slow
        (50, 1, None),  # the next 49 may be fast
        (50, 2, False),  # no more requests can mend it
        (0, 0, None),
    ],
)
def test_too_few_requests_are_judged_only_where_no_further_one_matters(
    fast: int, slow: int, met: bool | None
) -> None:
    samples = [sample(10) for _ in range(fast)] + [sample(90) for _ in range(slow)]
    assert Slo(99, 50).is_met(samples) is met


@given(st.lists(st.floats(1, 100), min_size=20, max_size=60), st.sampled_from([50, 90, 95]))
def test_with_enough_requests_the_observed_percentile_decides(
    latencies: list[float], percentile: float
) -> None:
    slo, samples = Slo(percentile, 50), [sample(latency) for latency in latencies]
    assert slo.is_met(samples) is ((slo.observed_ms(samples) or 0) <= 50)


@pytest.mark.parametrize(
    "failure",
    [Outcome.HTTP_ERROR, Outcome.TIMEOUT, Outcome.CONNECTION_ERROR, Outcome.MISSED],
)
def test_quick_failures_do_not_meet_it(failure: Outcome) -> None:
    good = [sample(10) for _ in range(98)]
    assert Slo(98, 50).observed_ms([*good, sample(1, failure), sample(1, failure)]) == 10
    assert Slo(99, 50).observed_ms([*good, sample(1, failure), sample(1, failure)]) is None

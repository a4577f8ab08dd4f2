from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.generator.outcome import Outcome, Sample, SampleLog, outcome_of
from loadtest.plan.reply import ReplyModel, ReplyPrediction

ROSES = ReplyPrediction("roses", ReplyModel("m", "1", "d", "b"))


class WrappedError(Exception):
    original = TimeoutError("no reply")


@pytest.mark.parametrize(
    ("status", "error", "prediction", "expected", "outcome"),
    [
        (200, None, ROSES, "roses", Outcome.OK),
        (200, None, ROSES, "", Outcome.OK),
        (200, None, ROSES, "daisy", Outcome.WRONG_PREDICTION),
        (200, None, None, "", Outcome.WRONG_PREDICTION),
        (200, ConnectionResetError(), None, "", Outcome.CONNECTION_ERROR),
        (200, TimeoutError(), None, "", Outcome.TIMEOUT),
        (204, None, None, "", Outcome.HTTP_ERROR),
        (503, ValueError("bad status"), None, "roses", Outcome.HTTP_ERROR),
        (0, ConnectionRefusedError(), None, "", Outcome.CONNECTION_ERROR),
        (0, TimeoutError(), None, "", Outcome.TIMEOUT),
        (0, WrappedError(), None, "", Outcome.TIMEOUT),
    ],
)
def test_verdicts(
    status: int,
    error: Exception | None,
    prediction: ReplyPrediction | None,
    expected: str,
    outcome: Outcome,
) -> None:
    assert (
        outcome_of(status=status, error=error, prediction=prediction, expected=expected) is outcome
    )


def test_the_three_clocks() -> None:
    sample = Sample(
        planned_s=1.0, sent_s=1.25, done_s=1.5, outcome=Outcome.OK, path="", size_bytes=1
    )
    assert (sample.lateness_ms, sample.service_ms, sample.intended_ms) == (250, 250, 500)


def test_a_missed_request_has_no_latency() -> None:
    sample = Sample(planned_s=1.0, outcome=Outcome.MISSED, path="", size_bytes=1)
    assert (sample.lateness_ms, sample.service_ms, sample.intended_ms) == (None, None, None)


@given(st.lists(st.sampled_from(Outcome)), st.integers(0, 5))
def test_the_log_conserves_requests(outcomes: list[Outcome], waiting: int) -> None:
    log = SampleLog(sent=waiting)
    for number, outcome in enumerate(outcomes):
        log.sent += outcome is not Outcome.MISSED
        log.add(Sample(planned_s=-number, outcome=outcome, path="", size_bytes=1))
    assert log.ok + log.failed + log.missed == len(outcomes)
    assert log.in_flight == waiting
    assert len(log.measured()) == min(1, len(outcomes))

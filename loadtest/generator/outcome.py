"""What became of one request, and the log of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from loadtest.plan.reply import NO_STAGES, ReplyModel, ReplyPrediction, Stages

__all__ = ["Outcome", "Sample", "SampleLog", "Tally", "latencies_of", "outcome_of"]


class Outcome(StrEnum):
    """Every planned request ends in exactly one of these."""

    OK = "ok"
    WRONG_PREDICTION = "wrong_answer"
    """Status 200, but another label than expected, or no classification at all."""
    HTTP_ERROR = "http_error"
    """Any other status."""
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    """No reply, or half of one: refused, reset, closed, not HTTP."""
    MISSED = "missed"
    """Not sent: too many requests still waited for their replies, or the generator's machine had
    no descriptor, port or memory left."""

    @property
    def classified(self) -> bool:
        """Whether the service classified the image, rightly or not."""
        return self in (Outcome.OK, Outcome.WRONG_PREDICTION)

    @property
    def replied(self) -> bool:
        """Whether a whole HTTP response came back."""
        return self.classified or self is Outcome.HTTP_ERROR


def outcome_of(
    *, status: int, error: BaseException | None, prediction: ReplyPrediction | None, expected: str
) -> Outcome:
    """Judge a request that was sent.

    Args:
        status: of the HTTP response; 0 without one.
        error: what the client library raised, if it did. It wraps a passed deadline into its own
            error, with the first one as `original`.
        prediction: the classification in the reply; None if there was none.
        expected: the label that is right; empty if any label will do.
    """
    if isinstance(error, TimeoutError) or isinstance(
        getattr(error, "original", None), TimeoutError
    ):
        return Outcome.TIMEOUT
    if status == 0 or (status == 200 and error is not None):
        return Outcome.CONNECTION_ERROR
    if status != 200:
        return Outcome.HTTP_ERROR
    if prediction is None or (expected and prediction.label != expected):
        return Outcome.WRONG_PREDICTION
    return Outcome.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One planned request.

    Attributes:
        planned_s: when it was to be sent; seconds from the start of the measured window, so that
            warm-up requests are below 0.
        sent_s: when it was; None if it was missed.
        done_s: when the reply was read, or the request given up.
        status: of the HTTP response; 0 without one.
        size_bytes: of the image sent.
        path: of the image, as the corpus names it.
        prediction: the first label of the reply; empty without one.
        expected: the label that is right; empty if the corpus does not say.
    """

    planned_s: float
    outcome: Outcome
    path: str
    size_bytes: int
    sent_s: float | None = None
    done_s: float | None = None
    status: int = 0
    request_id: str = ""
    prediction: str = ""
    expected: str = ""
    stages: Stages = NO_STAGES
    model: ReplyModel | None = None

    @property
    def intended_ms(self) -> float | None:
        """From the planned sending to the end: what a client that arrived then has waited."""
        return None if self.done_s is None else (self.done_s - self.planned_s) * 1000

    @property
    def service_ms(self) -> float | None:
        """From the actual sending to the end: hides what the generator held back."""
        if self.done_s is None or self.sent_s is None:
            return None
        return (self.done_s - self.sent_s) * 1000

    @property
    def lateness_ms(self) -> float | None:
        """How much later than planned it was sent."""
        return None if self.sent_s is None else (self.sent_s - self.planned_s) * 1000


class Tally(Protocol):
    """How a running load fares."""

    @property
    def sent(self) -> int:
        """Requests that have begun."""

    @property
    def ok(self) -> int:
        """Requests that ended well."""

    @property
    def failed(self) -> int:
        """Requests that were sent and did not."""

    @property
    def missed(self) -> int:
        """Requests that were not sent."""

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""


@dataclass(slots=True)
class SampleLog:
    """The samples of a run in the order in which they ended, warm-up included.

    `sent` counts requests that have begun; those of them that are neither recorded nor missed are
    in flight, and once the run is over they were given up at a signal. `faults` counts those that
    ended for want of something where the generator runs; they are missed.
    """

    samples: list[Sample] = field(default_factory=list)
    sent: int = 0
    ok: int = 0
    missed: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, sample: Sample) -> None:
        """Record an ended (or missed) request."""
        self.samples.append(sample)
        self.ok += sample.outcome is Outcome.OK
        self.missed += sample.outcome is Outcome.MISSED

    def add_fault(self, name: str, sample: Sample) -> None:
        """Record a request that had begun and could not be sent from here."""
        self.sent -= 1
        self.faults[name] += sample.planned_s >= 0
        self.add(sample)

    @property
    def failed(self) -> int:
        """Requests that were sent and did not end well."""
        return len(self.samples) - self.ok - self.missed

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""
        return self.sent + self.missed - len(self.samples)

    def measured(self) -> list[Sample]:
        """Samples of the measured window, without the warm-up, by planned time."""
        kept = [sample for sample in self.samples if sample.planned_s >= 0]
        return sorted(kept, key=lambda sample: sample.planned_s)


def latencies_of(samples: Iterable[Sample]) -> dict[str, list[float]]:
    """Latencies of what got an HTTP reply, and of timeouts, which took at least the timeout.

    Lost connections and missed requests have none: how soon a connection breaks is not a latency.

    Returns:
        "intended" and "service", in milliseconds.
    """
    timed = [s for s in samples if s.outcome.replied or s.outcome is Outcome.TIMEOUT]
    return {
        "intended": [s.intended_ms for s in timed if s.intended_ms is not None],
        "service": [s.service_ms for s in timed if s.service_ms is not None],
    }

"""The figures that the page shows, counted from raw samples."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.errors import UsageError
from loadtest.result.binomial import percentile_ranks
from loadtest.result.percentiles import nearest_rank, samples_needed

__all__ = [
    "Failure",
    "Percentile",
    "SampleRow",
    "Second",
    "failures_of",
    "percentile_rows",
    "read_rows",
    "seconds_of",
]

SHOWN_PERCENTILES = (50, 90, 95, 99, 99.9, 99.99)
MOST_WINDOWS = 60


@dataclass(frozen=True)
class SampleRow:
    """One planned request.

    Attributes:
        planned_s: when it was due; `done_s` when its reply was there, None without.
        intended_ms: latency from when it was due; `service_ms` from when it was sent. None without.
        outcome: as `loadtest.generator.outcome.Outcome` writes it.
        status: of HTTP; 0 without a reply.
        path: of the image.
        request_id: of the service's reply.
    """

    planned_s: float
    done_s: float | None
    intended_ms: float | None
    service_ms: float | None
    outcome: str
    status: int
    path: str
    request_id: str

    @property
    def replied(self) -> bool:
        """Whether its latency is one: of a reply, or of a timeout, which is at least that."""
        return self.outcome in ("ok", "wrong_answer", "http_error", "timeout")


@dataclass(frozen=True)
class Percentile:
    """One row of the table of latencies.

    Attributes:
        name: such as p99, or max.
        intended_ms: from when requests were due; `service_ms` from when they were sent.
        low_ms, high_ms: exact 95 % interval of `intended_ms`, were requests independent; None
            where so many requests cannot tell.
    """

    name: str
    intended_ms: float
    service_ms: float | None
    low_ms: float | None = None
    high_ms: float | None = None


@dataclass(frozen=True)
class Second:
    """One window of the time.

    Attributes:
        start_s: its begin; `width_s` its length.
        planned: requests due in it; `replied` and `good`: replies that came in it.
    """

    start_s: float
    width_s: float
    planned: int
    replied: int
    good: int


@dataclass(frozen=True)
class Failure:
    """One kind of failure.

    Attributes:
        outcome: its name; `status` that of HTTP, 0 without.
        number: how many.
        image: of the first; `request_id` the service's name for it, which its log has too.
    """

    outcome: str
    status: int
    number: int
    image: str
    request_id: str


def read_rows(path: Path) -> list[SampleRow]:
    """`samples.csv`.

    Raises:
        UsageError: it is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_row(fields) for fields in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} is missing or damaged", "repeat the load test") from error


def percentile_rows(rows: Sequence[SampleRow]) -> list[Percentile]:
    """Each percentile that so many requests can show, and the largest latency."""
    intended = sorted(r.intended_ms for r in rows if r.replied and r.intended_ms is not None)
    service = sorted(r.service_ms for r in rows if r.replied and r.service_ms is not None)
    if not intended:
        return []
    found = [
        _percentile(percentile, intended, service)
        for percentile in SHOWN_PERCENTILES
        if percentile == SHOWN_PERCENTILES[0] or samples_needed(percentile) <= len(intended)
    ]
    return [*found, Percentile("max", intended[-1], service[-1] if service else None)]


def _percentile(
    percentile: float, intended: Sequence[float], service: Sequence[float]
) -> Percentile:
    low, high = percentile_ranks(percentile, len(intended))
    return Percentile(
        f"p{percentile:g}",
        nearest_rank(intended, percentile),
        nearest_rank(service, percentile) if service else None,
        None if low is None else intended[low - 1],
        None if high is None else intended[high - 1],
    )


def seconds_of(rows: Sequence[SampleRow], duration_s: float) -> list[Second]:
    """The time in windows of a whole number of seconds, sixty at most; the last may be short."""
    width_s = max(1, math.ceil(duration_s / MOST_WINDOWS))
    number = max(1, math.ceil(duration_s / width_s - 1e-9))

    def count(times: Sequence[float]) -> Counter[int]:
        return Counter(int(time // width_s) for time in times if 0 <= time < duration_s)

    planned = count([row.planned_s for row in rows])
    replied = count([row.done_s for row in rows if row.replied and row.done_s is not None])
    good = count([r.done_s for r in rows if r.outcome == "ok" and r.done_s is not None])
    return [
        Second(
            n * width_s,
            min(width_s, duration_s - n * width_s),
            planned[n],
            replied[n],
            good[n],
        )
        for n in range(number)
    ]


def failures_of(rows: Sequence[SampleRow]) -> list[Failure]:
    """Kinds of failure, the most frequent first."""
    kinds: dict[tuple[str, int], list[SampleRow]] = {}
    for row in rows:
        if row.outcome != "ok":
            kinds.setdefault((row.outcome, row.status), []).append(row)
    found = [
        Failure(outcome, status, len(some), some[0].path, some[0].request_id)
        for (outcome, status), some in kinds.items()
    ]
    return sorted(found, key=lambda one: -one.number)


def _row(fields: dict[str, str]) -> SampleRow:
    return SampleRow(
        planned_s=float(fields["planned_s"]),
        done_s=_number(fields["done_s"]),
        intended_ms=_number(fields["intended_ms"]),
        service_ms=_number(fields["service_ms"]),
        outcome=fields["outcome"],
        status=int(fields["status"]),
        path=fields["path"],
        request_id=fields["request_id"],
    )


def _number(text: str) -> float | None:
    return float(text) if text else None

"""A service level objective: a percentile of the latency, and its limit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from loadtest.errors import UsageError
from loadtest.generator.outcome import Outcome, Sample
from loadtest.result.percentiles import rank_of_percentile, samples_needed

__all__ = ["Slo", "slo_from_text"]

_FORM = re.compile(r"p(?P<percentile>\d+(?:\.\d+)?)=(?P<limit>\d+(?:\.\d+)?)(?P<unit>[a-zµ]*)")
_MS_PER_UNIT = {"ms": 1.0, "s": 1000.0}
_EXAMPLE = "write it as --slo p99=50ms"


@dataclass(frozen=True, slots=True)
class Slo:
    """`percentile` % of all requests are answered within `target_ms`.

    Attributes:
        percentile: in (0, 100).
        target_ms: > 0, on the intended latency.
    """

    percentile: float
    target_ms: float

    @property
    def name(self) -> str:
        """The percentile as it is usually written: p99, p99.9."""
        return f"p{self.percentile:g}"

    @property
    def allowed(self) -> float:
        """Share of requests that may be slow."""
        return 1 - self.percentile / 100

    def observed_ms(self, samples: Iterable[Sample]) -> float | None:
        """The percentile of the intended latency over *all* requests.

        A request without a right prediction (wrong or none at all, HTTP error, timeout, lost
        connection, missed) counts as infinite latency. So a server cannot meet its objective
        by refusing quickly, nor by guessing.

        Returns:
            Milliseconds; None when the percentile falls on a request without a right prediction.

        Raises:
            ValueError: there are no samples.
        """
        population = list(samples)
        latencies = sorted(map(latency_until_right, population))
        observed_ms = latencies[rank_of_percentile(self.percentile, len(population)) - 1]
        return observed_ms if observed_ms < math.inf else None

    def is_met(self, samples: Iterable[Sample]) -> bool | None:
        """Whether the samples show that the objective is met, or missed, or neither.

        With fewer than `samples_needed` the percentile is the maximum, which shows nothing, unless
        so many are too slow already that no further request could mend it.

        Returns:
            True, False, or None where the requests are too few to judge.
        """
        population = list(samples)
        within = sum(latency_until_right(sample) <= self.target_ms for sample in population)
        lacking = max(0, samples_needed(self.percentile) - len(population))
        rank = rank_of_percentile(self.percentile, len(population) + lacking)
        if within + lacking < rank:
            return False
        return None if lacking else True


def latency_until_right(sample: Sample) -> float:
    """What a request counts as wherever an objective is judged: ms, infinite unless it is right."""
    if sample.outcome is not Outcome.OK or sample.intended_ms is None:
        return math.inf
    return sample.intended_ms


def slo_from_text(text: str) -> Slo:
    """Read `p99=50ms` or `p99.9=1.5s`.

    Raises:
        UsageError: another form, no unit, an unknown unit, or figures out of range.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--slo {text!r} is not PERCENTILE=LIMIT", _EXAMPLE)
    unit = match["unit"]
    if not unit:
        raise UsageError(
            f"--slo {text!r} has no unit", f"write {text.strip()}ms or {text.strip()}s"
        )
    if unit not in _MS_PER_UNIT:
        raise UsageError(f"--slo {text!r}: the unit {unit!r} is not ms or s", _EXAMPLE)
    percentile, target_ms = float(match["percentile"]), float(match["limit"]) * _MS_PER_UNIT[unit]
    if not 0 < percentile < 100:
        raise UsageError(f"--slo {text!r}: p{percentile:g} is not between 0 and 100", _EXAMPLE)
    if target_ms <= 0:
        raise UsageError(f"--slo {text!r}: the limit must be above 0", _EXAMPLE)
    return Slo(percentile=percentile, target_ms=target_ms)

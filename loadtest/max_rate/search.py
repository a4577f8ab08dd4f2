"""The largest rate that holds an objective, found by probes at rates chosen one after another.

A probe shows that the objective holds only where chance does not explain it: of n requests, so few
were slow that a service of which just the allowed share is slow would have so few in at most 5 % of
such probes (exact binomial). It shows that the objective fails by the same rule from the other
side. Between the two nothing is shown: the probe is repeated, longer, and what is still not shown
is not claimed. So is a first failure without a queue that grows: one pause of the machine is more
than 1 % of ten seconds, and says nothing of the rate.

The search doubles and halves from a first guess until it has a rate that holds and one that does
not, divides the gap geometrically, and confirms the result three times. It knows nothing of
servers: `measure` may be a simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from loadtest.result.binomial import at_most
from loadtest.result.verdict import Status

__all__ = ["MaxRate", "RateTrial", "find_max_rate", "requests_wanted"]

ALPHA = 0.05
STEP = 2.0
TOLERANCE = 0.05  # of the rate: the gap that is left between what holds and what does not
CONFIRMATIONS = 3
MAX_PROBES = 40
PAUSE = 5  # times the allowed share of slow requests: half a second in ten, for a p99
LATE_PROBES = 6  # in a row, at three rates: then it is not the rate


@dataclass(frozen=True)
class RateTrial:
    """What came of one rate.

    Args:
        rate: requests a second, offered.
        requests: that were planned.
        slow: of these, answered after the limit, wrongly or not at all.
        steady: whether the last third of the time was no worse than the first.
        problem: why the probe means nothing; "" where it means something.
    """

    rate: float
    requests: int
    slow: int
    steady: bool = True
    problem: str = ""

    def verdict(self, allowed: float) -> Status:
        """What it shows of the objective that at most `allowed` (a share) are slow."""
        if self.problem:
            return Status.INVALID
        if 1 - at_most(self.slow - 1, self.requests, allowed) <= ALPHA or not self.steady:
            return Status.FAILED
        if at_most(self.slow, self.requests, allowed) <= ALPHA:
            return Status.PASSED
        return Status.INCONCLUSIVE


@dataclass
class MaxRate:
    """Outcome of a search.

    Args:
        allowed: share of requests that may be slow.
        rate: the largest that held in every confirmation; 0 where none did.
        refused: the smallest above it that did not hold; None where every rate held that the
            generator could offer.
        limit: what was wrong with the generator where it could not offer `refused`, which is then
            its limit and not the service's. "" where it could.
        note: why the search ended without a max rate, unless every rate failed; "" else.
        cause: what a note makes of the search.
        probes: all of them with their verdicts, in the order they were made.
    """

    allowed: float
    rate: float = 0.0
    refused: float | None = None
    limit: str = ""
    note: str = ""
    cause: Status = Status.INVALID
    probes: list[tuple[RateTrial, Status]] = field(default_factory=list)

    @property
    def verdict(self) -> Status:
        """Of the whole search."""
        return self.cause if self.note else Status.PASSED if self.rate else Status.FAILED

    def verdicts_at(self, rate: float | None) -> list[Status]:
        """What its probes showed."""
        return [verdict for probe, verdict in self.probes if probe.rate == rate]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "verdict": self.verdict.value,
            "allowed_share": self.allowed,
            "rate_rps": self.rate,
            "refused_rps": self.refused,
            "limit": self.limit,
            "note": self.note,
            "confirmations": CONFIRMATIONS,
            "probes": [
                {**asdict(probe), "verdict": Status(verdict).value}
                for probe, verdict in self.probes
            ],
        }


def requests_wanted(allowed: float) -> int:
    """Requests of one probe: three times as many as show the objective where none is slow."""
    return 3 * math.ceil(math.log(ALPHA) / math.log1p(-allowed))


def find_max_rate(
    measure: Callable[[float, int], RateTrial],
    *,
    allowed: float,
    first: float,
    lowest: float = 1.0,
    highest: float = 1e5,
    into: MaxRate | None = None,
) -> MaxRate:
    """Search.

    Args:
        measure: (requests a second, how many times as long as usual) -> a probe.
        allowed: share of requests that may be slow: 0.01 for a p99.
        first: requests a second to begin with.
        lowest: nothing slower is tried.
        highest: nothing faster is tried.
        into: filled while it goes, so that a stopped search still has its probes.
    """
    found = into if into is not None else MaxRate(allowed)
    search = _Search(measure, found)
    try:
        holds, refused = search.bracket(max(lowest, min(first, highest)), lowest, highest)
        if holds:
            search.narrow(holds, refused, lowest)
    except _Ended as ended:
        found.rate, (found.note, found.cause) = 0.0, ended.args
    if not found.rate and not found.note and found.limit:
        found.note = found.limit
    shown = ([Status.FAILED], [Status.INCONCLUSIVE])
    if found.rate and found.verdicts_at(found.refused)[-1:] in shown:
        found.limit = ""  # the generator was late at higher rates, which matter no more
    return found


class _Ended(Exception):
    """The search cannot go on, and what that makes of it."""


class _Search:
    def __init__(self, measure: Callable[[float, int], RateTrial], found: MaxRate) -> None:
        self._measure, self._found = measure, found

    def holds(self, rate: float, *, strictly: bool = False) -> bool:
        """Probe, and once more and longer where nothing is shown or the probe means nothing.

        At a rate that the generator could offer before, a late generator is the machine's doing:
        such a probe is repeated three times.

        Args:
            rate: requests a second.
            strictly: take the first failure as one, whether or not the queue grew.
        """
        verdict = Status.INCONCLUSIVE
        for times in (1, 3, 3, 3) if self._was_offered(rate) else (1, 3):
            if len(self._found.probes) >= MAX_PROBES:
                message = f"no end after {MAX_PROBES} probes: the service is not steady"
                raise _Ended(message, Status.INCONCLUSIVE)
            # A load may round its rate; what was found is looked up by the rate that was asked.
            probe = replace(self._measure(rate, times), rate=rate)
            verdict = probe.verdict(self._found.allowed)
            self._found.probes.append((probe, verdict))
            again = verdict is Status.INCONCLUSIVE or (not strictly and self._may_be_a_pause(probe))
            if verdict is Status.PASSED or (
                verdict is not Status.INVALID and not (times == 1 and again)
            ):
                break
        if verdict is Status.INVALID:
            self._found.limit = f"at {rate:.3g} requests/s {probe.problem}"
        return verdict is Status.PASSED

    def _may_be_a_pause(self, probe: RateTrial) -> bool:
        return probe.steady and probe.slow <= PAUSE * self._found.allowed * probe.requests

    def _was_offered(self, rate: float) -> bool:
        return any(probe.rate >= rate and not probe.problem for probe, _ in self._found.probes)

    def bracket(self, rate: float, lowest: float, highest: float) -> tuple[float, float | None]:
        """A rate that holds (0: none does), and the next that does not (None: all do)."""
        if self.holds(rate):
            while rate < highest:
                upper = min(highest, rate * STEP)
                if not self.holds(upper):
                    self._found.refused = upper
                    return rate, upper
                rate = upper
            return rate, None
        while rate > lowest:
            last = [verdict for _, verdict in self._found.probes[-LATE_PROBES:]]
            if last.count(Status.INVALID) == LATE_PROBES:
                message = f"{self._found.limit}, and no better at higher ones: free the machine"
                raise _Ended(message, Status.INVALID)
            self._found.refused, rate = rate, max(lowest, rate / STEP)
            if self.holds(rate):
                return rate, self._found.refused
        self._found.refused = rate
        return 0.0, rate

    def narrow(self, low: float, high: float | None, lowest: float) -> None:
        """Close the gap, then confirm; a rate that is not confirmed is refused, a lower one tried.

        Near the limit a queue's slow requests come in flocks, which one probe may be spared.
        """
        while high is not None and high / low > 1 + TOLERANCE:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.holds(middle) else (low, middle)
        self._found.rate, self._found.refused, step = 0.0, high, TOLERANCE
        while low >= lowest:
            if all(self.holds(low, strictly=True) for _ in range(CONFIRMATIONS)):
                self._found.rate = low
                return
            self._found.refused, low, step = low, low / (1 + step), step * STEP**0.5

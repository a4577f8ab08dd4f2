"""When to send which image, decided before the load begins.

A schedule is a unit process carried through the rate: its k-th request is sent when the expected
number of requests, the integral of the rate, reaches the k-th value of the process. The unit
process is Poisson (gaps are exponential and know nothing of the server's state, which is what many
independent clients amount to) or even. Drawing all of it ahead, from a seed, makes a run repeatable
and leaves the server no way to slow the schedule down.

Several generators share one schedule without talking: W independent Poisson processes of rate R / W
are together one of rate R, and of an even process generator w takes every W-th request from the
w-th on.

Source: the scenario "Server" of MLPerf Inference's LoadGen (Reddi et al. 2019, arXiv:1911.02549);
Cinlar 1975, "Introduction to Stochastic Processes", section 4.7, for the carrying.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from random import Random

__all__ = [
    "Segment",
    "even_counts",
    "image_picks",
    "poisson_counts",
    "poisson_times",
    "times_from_counts",
]

REPEAT_AFTER = 8
"""A repeated image was first sent about this many first sendings before."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A time in which the rate goes from one value to another in a straight line.

    Attributes:
        duration_s: > 0.
        begin_rps: >= 0.
        end_rps: >= 0; one of the two is above 0.
    """

    duration_s: float
    begin_rps: float
    end_rps: float

    def __post_init__(self) -> None:
        rates = (self.begin_rps, self.end_rps)
        if not (self.duration_s > 0 and min(rates) >= 0 and max(rates) > 0):
            raise ValueError(
                f"rate {max(rates)}/s and duration {self.duration_s} s must both be above 0"
            )

    @property
    def requests(self) -> float:
        """How many are expected in it."""
        return self.duration_s * (self.begin_rps + self.end_rps) / 2

    def time_of(self, requests: float) -> float:
        """Seconds into the segment at which so many requests are expected to have been sent."""
        slope = (self.end_rps - self.begin_rps) / self.duration_s
        root = math.sqrt(max(self.begin_rps * self.begin_rps + 2 * slope * requests, 0.0))
        return 2 * requests / (self.begin_rps + root) if requests > 0 else 0.0


def times_from_counts(counts: Iterable[float], segments: Sequence[Segment]) -> list[float]:
    """Carry a unit process through the rate.

    Args:
        counts: ascending, endless or longer than what the segments hold.
        segments: one after the other.

    Returns:
        Seconds from the start, ascending, strictly below the segments' total.
    """
    times: list[float] = []
    passed, begin_s, ahead = 0.0, 0.0, iter(counts)
    number = next(ahead, math.inf)
    for segment in segments:
        end_s = begin_s + segment.duration_s
        while number < passed + segment.requests:
            time_s = begin_s + segment.time_of(number - passed)
            if time_s >= end_s:
                break  # a rounding away from the end: it belongs to the next segment
            times.append(time_s)
            number = next(ahead, math.inf)
        passed, begin_s = passed + segment.requests, end_s
    return times


def poisson_counts(*, seed: int, worker: int = 0, workers: int = 1) -> Iterator[float]:
    """One generator's share of a Poisson process of rate 1, infinite."""
    part = f" {worker}/{workers}" if workers > 1 else ""
    random = Random(f"send times {seed}{part}")
    now = 0.0
    while True:
        now += random.expovariate(1.0) * workers
        yield now


def even_counts(*, worker: int = 0, workers: int = 1) -> Iterator[float]:
    """One generator's share of 0, 1, 2, 3 and so on."""
    return map(float, islice(count(), worker, None, workers))


def poisson_times(*, rate: float, duration_s: float, seed: int) -> list[float]:
    """Send times of a Poisson process.

    A longer duration with the same rate and seed only appends to the list.

    Args:
        rate: requests per second, > 0.
        duration_s: length of the process, > 0.
        seed: the same seed gives the same list on every machine and Python version.

    Returns:
        Seconds from the start, strictly below `duration_s`, ascending.

    Raises:
        ValueError: rate or duration is not above 0.
    """
    return times_from_counts(poisson_counts(seed=seed), [Segment(duration_s, rate, rate)])


def image_picks(
    *, images: int, seed: int, user: int = 0, repeat_share: float = 0.0
) -> Iterator[int]:
    """An endless stream of image indices.

    Without repeats each is drawn at random from all of them. With repeats the images come in a
    random order, each once before any comes again, and between them some are sent a second time
    shortly after the first: what a cache would answer faster, and what the same image did before
    says by how much.

    Args:
        images: how many there are, at least 1.
        seed: of the run.
        user: number of the simulated user; each has its own stream.
        repeat_share: share of second sendings, in [0, 0.5].

    Yields:
        Indices from 0 to `images` - 1.
    """
    random = Random(f"photos {seed} {user}")
    if not repeat_share:
        while True:
            yield random.randrange(images)
    # After a repeat the list must fill up again, so repeats are p / (1 + p) of all.
    probability = repeat_share / (1 - repeat_share)
    recent: list[int] = []
    order: list[int] = []
    while True:
        if len(recent) == REPEAT_AFTER and random.random() < probability:
            yield recent.pop(0)
            continue
        if not order:
            order = random.sample(range(images), images)
        recent = [*recent, order[-1]][-REPEAT_AFTER:]
        yield order.pop()

"""Loads in virtual time: the real schedules and the real accounting, and no clock that runs.

A server is a function from the time of an arrival to that of its reply, told of arrivals in order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from random import Random

from loadtest.generator.outcome import Outcome, Sample

Server = Callable[[float], float]


def queue(service_s: Callable[[], float]) -> Server:
    """One server, first come first served: Lindley's recursion."""
    free_s = 0.0

    def reply_s(arrival_s: float) -> float:
        nonlocal free_s
        free_s = max(arrival_s, free_s) + service_s()
        return free_s

    return reply_s


def exponential(mean_s: float, seed: int) -> Callable[[], float]:
    random = Random(f"service {seed}")
    return lambda: random.expovariate(1 / mean_s)


def frozen_one_in_five(service_s: float) -> Server:
    """Endless capacity, but from 4 to 5 s, 9 to 10 s and so on nothing goes on."""

    def reply_s(arrival_s: float) -> float:
        into_s = arrival_s % 5.0
        return arrival_s + service_s + (5.0 - into_s if into_s >= 4.0 else 0.0)

    return reply_s


def open_loop(times_s: Sequence[float], server: Server) -> list[Sample]:
    return [_sample(planned_s, server(planned_s)) for planned_s in times_s]


def closed_loop(users: int, duration_s: float, server: Server) -> list[Sample]:
    samples = []
    free = [user * 1e-6 for user in range(users)]
    while (sent_s := heapq.heappop(free)) < duration_s:
        samples.append(_sample(sent_s, server(sent_s)))
        heapq.heappush(free, samples[-1].done_s or 0.0)
    return samples


def _sample(planned_s: float, done_s: float) -> Sample:
    return Sample(
        planned_s=planned_s,
        sent_s=planned_s,
        done_s=done_s,
        outcome=Outcome.OK,
        path="a.png",
        size_bytes=1,
    )

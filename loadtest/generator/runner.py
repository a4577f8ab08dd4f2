"""Runs a load plan on Locust, as a library: in this process, or in workers of it.

Importing this module imports Locust, which patches the standard library for gevent.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.hub import Hub
from locust.env import Environment

from loadtest.generator.environment import load_average
from loadtest.generator.load_result import LoadResult
from loadtest.generator.outcome import Tally
from loadtest.generator.process import Generator
from loadtest.max_rate.subprocess_runner import heeded
from loadtest.plan.corpus import CorpusImage
from loadtest.plan.load_plan import LoadPlan

__all__ = ["run_load", "signals_set"]

SETTLE_S = 0.2
"""Between preparing the users and the first request."""

# A Ctrl-C is reported by the command, in words; gevent would print it as an error too.
Hub.NOT_ERROR = (*Hub.NOT_ERROR, KeyboardInterrupt)

Progress = Callable[[Tally, float], None]


def run_load(plan: LoadPlan, images: Sequence[CorpusImage], progress: Progress) -> LoadResult:
    """Put the load on the service from this process and wait for its end.

    SIGINT and SIGTERM end it early: nothing more is sent, replies get 2 s to arrive, and the result
    holds what ran. A second signal acts as if this were any program.

    Args:
        plan: what to do; `fleet.run_fleet` is for one of several workers.
        images: at least one.
        progress: called about each second with the log and the seconds since the measured window
            began (below 0 during the warm-up).
    """
    load_before = load_average()
    origin_s = time.perf_counter() + SETTLE_S + plan.warmup_s
    generator = Generator(plan, images, origin_s=origin_s)
    environment = Environment(user_classes=[generator.user_class], host=plan.url)
    runner = environment.create_local_runner()
    with signals_set(generator.halt):
        runner.start(generator.users, spawn_rate=generator.users)
        runner.spawning_greenlet.join()
        generator.run(runner.user_greenlets, progress)
    runner.quit()
    report = generator.report()
    return LoadResult(
        samples=generator.log.measured(),
        duration_s=generator.duration_s,
        abandoned=generator.log.in_flight,
        stopped_by=generator.halt.value.name if generator.halt.ready() else None,
        cpu_share=report.cpu_share,
        load_average_before=load_before,
        load_average_after=load_average(),
        generators=[report],
    )


@contextmanager
def signals_set(halt: AsyncResult) -> Iterator[None]:
    """Let the first signal that ends us set `halt`; give the old handlers back after it."""
    numbers = heeded()
    previous = {number: signal.getsignal(number) for number in numbers}
    watchers: list[Any] = []

    def give_back() -> None:
        while watchers:
            watchers.pop().cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)

    def on_signal(number: signal.Signals) -> None:
        give_back()
        halt.set(number)

    watchers += [gevent.signal_handler(number, on_signal, number) for number in numbers]
    try:
        yield
    finally:
        give_back()

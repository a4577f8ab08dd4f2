"""Runs a load plan on Locust, as a library and in this process.

Importing this module imports Locust, which patches the standard library for gevent.
"""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.hub import Hub
from locust.env import Environment

from loadtest.corpus import Photo
from loadtest.environment import CpuMeter, load_average
from loadtest.outcome import SampleLog
from loadtest.plan import LoadPlan
from loadtest.result import LoadResult
from loadtest.schedule import poisson_times
from loadtest.user import ClosedLoopUser, OpenLoopUser, PhotoUser

__all__ = ["run_load"]

SETTLE_S = 0.2
"""Between preparing the users and the first request."""
GRACE_AT_SIGNAL_S = 2.0
"""How long a stopped run waits for replies that are still to come."""

# A Ctrl-C is reported by the command, in words; gevent would print it as an error too.
Hub.NOT_ERROR = (*Hub.NOT_ERROR, KeyboardInterrupt)

Progress = Callable[[SampleLog, float], None]


def run_load(plan: LoadPlan, photos: Sequence[Photo], progress: Progress) -> LoadResult:
    """Put the load on the service and wait for its end.

    SIGINT and SIGTERM end it early: nothing more is sent, replies get 2 s to arrive, and the result
    holds what ran. A second signal acts as if this were any program.

    Args:
        plan: what to do.
        photos: at least one.
        progress: called about each second with the log and the seconds since the measured window
            began (below 0 during the warm-up).
    """
    log, halt, meter = SampleLog(), AsyncResult(), CpuMeter()
    load_before = load_average()
    origin_s = time.perf_counter() + SETTLE_S + plan.warmup_s
    user_class = _build_user_class(plan, photos, origin_s)
    user_class.log, user_class.halt = log, halt
    runner = Environment(user_classes=[user_class], host=plan.url).create_local_runner()
    gc.collect()
    gc.freeze()  # the corpus and the schedule need no further visits of the garbage collector
    meter.start()
    with _signals_set(halt):
        runner.start(plan.users or 1, spawn_rate=plan.users or 1)
        runner.spawning_greenlet.join()
        window_s = _wait(runner, halt, lambda: progress(log, time.perf_counter() - origin_s))
    meter.stop()
    runner.quit()
    return LoadResult(
        samples=log.measured(),
        duration_s=min(plan.duration_s, max(window_s - origin_s, 0.0)),
        abandoned=log.in_flight,
        stopped_by=halt.value.name if halt.ready() else None,
        cpu_share=meter.share,
        load_average_before=load_before,
        load_average_after=load_average(),
    )


def _build_user_class(plan: LoadPlan, photos: Sequence[Photo], origin_s: float) -> type[PhotoUser]:
    shared: dict[str, Any] = {
        "photos": photos,
        "seed": plan.seed,
        "timeout_s": plan.timeout_s,
        "network_timeout": plan.timeout_s + 1,  # the deadline of the whole request comes first
        "connection_timeout": plan.timeout_s + 1,
        "origin_s": origin_s,
    }
    if plan.rate is None:
        window = {"begin_s": -plan.warmup_s, "end_s": plan.duration_s, "numbers": count()}
        return type("ClosedLoop", (ClosedLoopUser,), shared | window)
    length_s = plan.warmup_s + plan.duration_s
    times = poisson_times(rate=plan.rate, duration_s=length_s, seed=plan.seed)
    schedule = {"times_s": [planned_s - plan.warmup_s for planned_s in times]}
    return type("OpenLoop", (OpenLoopUser,), shared | schedule)


def _wait(runner: Any, halt: AsyncResult, report: Callable[[], None]) -> float:
    """Wait until every user is done; return when that was, or when the run was halted."""
    done = gevent.spawn(runner.user_greenlets.join)
    while not gevent.wait([done, halt], timeout=1.0, count=1):
        report()
    ended_s = time.perf_counter()
    if not done.ready() and not runner.user_greenlets.join(timeout=GRACE_AT_SIGNAL_S):
        runner.user_greenlets.kill()
    report()
    return ended_s


@contextmanager
def _signals_set(halt: AsyncResult) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM set `halt`; give the old handlers back after it."""
    numbers = (signal.SIGINT, signal.SIGTERM)
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

"""One process's share of a load: its users, what they noted, and how the process itself fared.

Importing this module imports Locust, which patches the standard library for gevent.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import gevent
from gevent.event import AsyncResult

from loadtest.generator.environment import CpuMeter, peak_memory_mib
from loadtest.generator.histogram import LatencyHistogram, has_histograms
from loadtest.generator.load_result import GeneratorReport
from loadtest.generator.outcome import Outcome, Sample, SampleLog, Tally, latencies_of
from loadtest.generator.users import ClosedLoopUser, ImageUser, OfflineUser, OpenLoopUser
from loadtest.plan.corpus import CorpusImage
from loadtest.plan.load_plan import MAX_IN_FLIGHT, LoadPlan
from loadtest.plan.scenario import scenario_times
from loadtest.result.percentiles import nearest_rank

__all__ = ["USER_CLASS", "Generator"]

USER_CLASS = "ImageLoad"
"""Master and workers of Locust name a user class alike."""
GRACE_AT_SIGNAL_S = 2.0
"""How long a stopped run waits for replies that are still to come."""
LAG_EVERY_S = 0.02
MAX_STRETCHES = 600
"""Of the generator's CPU and memory over time, in its report."""


class Generator:
    """Puts (its part of) a plan on the service.

    Args:
        plan: what to do.
        images: at least one.
        origin_s: `time.perf_counter()` at the start of the measured window, warm-up passed.
        worker: number of this process, below `plan.workers`.
    """

    def __init__(
        self, plan: LoadPlan, images: Sequence[CorpusImage], *, origin_s: float, worker: int = 0
    ) -> None:
        self.plan, self.origin_s, self.worker = plan, origin_s, worker
        self.log, self.halt = SampleLog(), AsyncResult()
        self.user_class = self._build_user_class(images)
        self.duration_s = 0.0
        self._meter, self._lags_ms = CpuMeter(), list[float]()

    def set_origin(self, origin_s: float) -> None:
        """Say when the measured window begins; before the users are spawned."""
        self.origin_s = self.user_class.origin_s = origin_s

    @property
    def users(self) -> int:
        """How many clients this process simulates."""
        if self.plan.users is None:
            return 1
        return len(range(self.worker, self.plan.users, self.plan.workers))

    def run(self, user_greenlets: Any, report: Callable[[Tally, float], None]) -> None:
        """Wait until every user is done, or the run is halted and replies got 2 s to arrive.

        Args:
            user_greenlets: Locust's, spawned already.
            report: called about each second with the log and the seconds since the measured window
                began.
        """
        gc.collect()
        gc.freeze()  # the corpus and the schedule need no further visits of the garbage collector
        self._meter.start()
        probe = gevent.spawn(self._watch_lag)
        done = gevent.spawn(user_greenlets.join)
        while not gevent.wait([done, self.halt], timeout=1.0, count=1):
            self._meter.sample()
            report(self.log, time.perf_counter() - self.origin_s)
        ended_s = time.perf_counter() - self.origin_s
        self._meter.stop()
        probe.kill()
        if not done.ready() and not user_greenlets.join(timeout=GRACE_AT_SIGNAL_S):
            user_greenlets.kill()
        self._count_what_nobody_took()
        report(self.log, time.perf_counter() - self.origin_s)
        if self.plan.rate is not None and not self.halt.ready():
            ended_s = self.plan.duration_s  # the window goes on where its last request is over
        self.duration_s = min(self.plan.duration_s, max(ended_s, 0.0))

    def report(self) -> GeneratorReport:
        """How this process fared; to be asked after the run."""
        lags_ms = sorted(self._lags_ms)
        samples = self.log.measured()
        series = self._series()
        return GeneratorReport(
            worker=self.worker,
            requests=len(samples),
            cpu_share=round(self._meter.share, 4),
            cpu_peak_share=round(
                max((share for _, share, _ in self._meter.series), default=self._meter.share), 4
            ),
            lag_p99_ms=round(nearest_rank(lags_ms, 99), 3) if lags_ms else None,
            lag_max_ms=round(lags_ms[-1], 3) if lags_ms else None,
            memory_mib=round(peak_memory_mib(), 1),
            cores=sorted(os.sched_getaffinity(0)),
            time_s=[round(time_s - self.origin_s, 3) for time_s, _, _ in series],
            cpu_shares=[round(share, 3) for _, share, _ in series],
            rss_mib=[round(memory, 1) for _, _, memory in series],
            faults=dict(self.log.faults),
            histograms=_histograms(samples),
        )

    def _series(self) -> Sequence[tuple[float, float, float]]:
        """Of the measured window; every n-th stretch where there are more than a page can show."""
        measured = [one for one in self._meter.series if one[0] > self.origin_s]
        return measured[:: 1 + len(measured) // MAX_STRETCHES]

    def _watch_lag(self) -> None:
        """Note how much later than asked this greenlet gets its turn; replies wait as long."""
        while True:
            due_s = time.perf_counter() + LAG_EVERY_S
            gevent.sleep(LAG_EVERY_S)
            now_s = time.perf_counter()
            if now_s >= self.origin_s:
                self._lags_ms.append((now_s - due_s) * 1000)

    def _count_what_nobody_took(self) -> None:
        """Requests of an offline load that its time did not suffice for."""
        if self.plan.scenario == "offline" and not self.halt.ready():
            for _ in getattr(self.user_class, "left", ()):
                missed = Sample(planned_s=0.0, outcome=Outcome.MISSED, path="", size_bytes=0)
                self.log.add(missed)

    def _build_user_class(self, images: Sequence[CorpusImage]) -> type[ImageUser]:
        plan = self.plan
        fields: dict[str, Any] = {
            "images": images,
            "target": plan.target,
            "seed": plan.seed,
            "stream": self.worker * MAX_IN_FLIGHT,
            "repeat_share": plan.repeat_share,
            "timeout_s": plan.timeout_s,
            "network_timeout": plan.timeout_s + 1,  # the deadline of the whole request comes first
            "connection_timeout": plan.timeout_s + 1,
            "origin_s": self.origin_s,
            "log": self.log,
            "halt": self.halt,
        }
        if plan.keeps_time:
            return type(USER_CLASS, (OpenLoopUser,), fields | {"times_s": self._times()})
        window = {"begin_s": -plan.warmup_s, "end_s": plan.duration_s, "numbers": count()}
        if plan.scenario == "offline":
            left = iter(range(self.worker, plan.requests or 0, plan.workers))
            return type(USER_CLASS, (OfflineUser,), fields | window | {"left": left})
        return type(USER_CLASS, (ClosedLoopUser,), fields | window)

    def _times(self) -> Sequence[float]:
        plan = self.plan
        if plan.rate is None:
            own = plan.arrivals_s[self.worker :: plan.workers]
            return [time_s for time_s in own if time_s < plan.duration_s]
        return scenario_times(
            plan.scenario,
            rate=plan.rate,
            duration_s=plan.duration_s,
            warmup_s=plan.warmup_s,
            seed=plan.seed,
            worker=self.worker,
            workers=plan.workers,
        )


def _histograms(samples: Sequence[Sample]) -> dict[str, str]:
    if not has_histograms():
        return {}
    return {
        kind: LatencyHistogram.of(values_ms).encode()
        for kind, values_ms in latencies_of(samples).items()
    }

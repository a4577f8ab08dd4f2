"""One use of the load test: loads on one service, each turned into a summary.

Importing this module imports Locust, which patches the standard library for gevent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from loadtest.errors import InvalidMeasurement
from loadtest.extras.distributed.master import run_fleet
from loadtest.extras.distributed.worker_config import Fleet
from loadtest.extras.host_monitor.gpu_watch import GpuWatch, watched_gpus
from loadtest.extras.host_monitor.service_watch import ServiceWatch
from loadtest.extras.scaling.saturation import describe_saturation, saturate
from loadtest.generator.affinity import split_cores
from loadtest.generator.calibration import p99_change
from loadtest.generator.environment import fingerprint
from loadtest.generator.load_result import LoadResult
from loadtest.generator.outcome import Tally
from loadtest.generator.runner import run_load
from loadtest.plan.corpus import CorpusImage
from loadtest.plan.load_plan import SATURATION_MAX_USERS, LoadPlan
from loadtest.result.console_report import LoadProgress
from loadtest.result.summary import build_summary
from loadtest.result.verdict import reasons_of, status_of

__all__ = ["Session"]


class Session:
    """Runs plans and says on standard error what it does.

    Args:
        photos: the corpus.
        fleet: where the workers of a split load are; None where this process always sends.
        watch: of the service's processes, where they are on this machine; it and the generators
            then get different cores, if there are two.
        workers: among how many generators the cores are to be split.
        further: blocks for every summary, such as a calibration.
    """

    def __init__(
        self,
        photos: Sequence[CorpusImage],
        *,
        fleet: Fleet | None = None,
        watch: ServiceWatch | None = None,
        workers: int = 1,
        further: dict[str, Any] | None = None,
    ) -> None:
        self._photos, self._watch, self._further = photos, watch, further or {}
        self._fleet = fleet
        if watch is not None:
            self._part_cores(watch, workers)

    def measure(self, plan: LoadPlan) -> tuple[LoadResult, dict[str, Any]]:
        """Run a plan.

        Raises:
            InvalidMeasurement: not one request was sent.
        """
        result = self._load(plan)
        sent = any(sample.sent_s is not None for sample in result.samples)
        if not sent and result.stopped_by is None:
            raise InvalidMeasurement(
                f"no request was sent in {plan.duration_s:g} s", "raise --rate or --duration-s"
            )
        return result, self._summarise(plan, result)

    def saturate(self, plan: LoadPlan) -> tuple[LoadResult, dict[str, Any]]:
        """Closed loops with ever more clients; the result is that of the highest throughput."""
        runs: dict[int, tuple[LoadResult, LoadPlan]] = {}

        def measure(users: int) -> dict[str, Any]:
            step = replace(plan, users=users, workers=min(plan.workers, users))
            result, summary = self.measure(step)
            runs[users] = (result, step)
            return summary

        summaries, best = saturate(measure, max_users=SATURATION_MAX_USERS)
        result, step = runs[best["users"]]
        described = describe_saturation(summaries)
        for told, summary in zip(described["steps"], summaries, strict=True):
            # an objective is judged at the best step alone: the last ones are beyond it on purpose
            judged = {**summary, "slo": None}
            told |= {"verdict": status_of(judged).value, "reasons": reasons_of(judged)}
        return result, self._summarise(step, result, saturation=described)

    def double(self, plan: LoadPlan, result: LoadResult, summary: dict[str, Any]) -> dict[str, Any]:
        """Repeat the load with twice the workers, and put what changed into the summary."""
        doubled = self._load(replace(plan, workers=2 * plan.workers))
        return self._summarise(plan, result, doubling=p99_change(summary, doubled))

    def _load(self, plan: LoadPlan) -> LoadResult:
        sys.stderr.write(f"{plan.title}\n")
        if self._watch is None:
            return self._run(plan, lambda now_s: None)
        watch = self._watch
        watch.series.clear()  # each load has its own time
        with watched_gpus(wanted=True) as gpus:
            result = self._run(plan, lambda now_s: _sample(now_s, watch, gpus))
        return replace(result, service_process=watch.describe() | {"gpus": gpus.describe()})

    def _run(self, plan: LoadPlan, watch: Callable[[float], None]) -> LoadResult:
        progress = LoadProgress(sys.stderr, total_s=plan.duration_s)

        def report(log: Tally, now_s: float) -> None:
            progress(log, now_s)
            if now_s >= 0:
                watch(now_s)

        if self._fleet is not None and (plan.workers > 1 or self._fleet.external):
            result = run_fleet(plan, self._photos, report, self._fleet)
        else:
            result = run_load(plan, self._photos, report)
        progress.close()
        return result

    def _summarise(
        self, plan: LoadPlan, result: LoadResult, **blocks: dict[str, Any]
    ) -> dict[str, Any]:
        used = result.service_process
        service = {} if used is None else {"service_process": used}
        blocks = {**self._further, **service, **blocks}
        return build_summary(plan, self._photos, result, fingerprint(), **blocks)

    def _part_cores(self, watch: ServiceWatch, workers: int) -> None:
        """Give the service its cores and the generators theirs."""
        split = split_cores(workers)
        if not split.generators:
            sys.stderr.write("one core: the generator and the service share it\n")
            return
        watch.pin(split.service)
        if self._fleet is not None:
            self._fleet = replace(self._fleet, cores=split.generators)
        os.sched_setaffinity(0, split.generators)
        sys.stderr.write(
            f"the service runs on cores {_names(split.service)}, "
            f"the generator on {_names(split.generators)}\n"
        )


def _sample(now_s: float, *watches: ServiceWatch | GpuWatch) -> None:
    for watch in watches:
        watch.sample(now_s)


def _names(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores))

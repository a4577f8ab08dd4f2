"""Runs one or more loads against a service, and summarises each.

Importing this module imports Locust, which patches the standard library for gevent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from loadtest.console import progress_stream
from loadtest.errors import InvalidMeasurement
from loadtest.generator.affinity import split_cores
from loadtest.generator.calibration import p99_change
from loadtest.generator.environment import fingerprint
from loadtest.generator.load_result import LoadResult
from loadtest.generator.outcome import Tally
from loadtest.generator.runner import run_load
from loadtest.optional import load_optional
from loadtest.plan.corpus import CorpusImage
from loadtest.plan.load_plan import SATURATION_MAX_USERS, LoadPlan
from loadtest.plan.worker_fleet import Fleet
from loadtest.result.console_report import LoadProgress
from loadtest.result.summary import build_summary
from loadtest.result.verdict import reasons_of, status_of
from loadtest.result.watch import ServiceMonitor, Watch

__all__ = ["Session"]

log = logging.getLogger(__name__)


class Session:
    """Runs plans and logs what it does.

    Args:
        images: the corpus.
        fleet: where the workers of a split load are; None where this process always sends.
        watch: of the service's processes, where they are on this machine; it and the generators
            then get different cores, if there are two.
        workers: among how many generators the cores are to be split.
        further: blocks for every summary, such as a calibration.
    """

    def __init__(
        self,
        images: Sequence[CorpusImage],
        *,
        fleet: Fleet | None = None,
        watch: ServiceMonitor | None = None,
        workers: int = 1,
        further: dict[str, Any] | None = None,
    ) -> None:
        self._images, self._watch, self._further = images, watch, further or {}
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

        summaries, best = load_optional("saturate")(measure, max_users=SATURATION_MAX_USERS)
        result, step = runs[best["users"]]
        described = load_optional("describe_saturation")(summaries)
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
        log.info(plan.title)
        if self._watch is None:
            return self._run(plan, lambda now_s: None)
        watch = self._watch
        watch.restart()  # each load has its own time
        with load_optional("gpu_watch")() as gpus:
            result = self._run(plan, lambda now_s: _sample(now_s, watch, gpus))
        return replace(result, service_process=watch.describe() | {"gpus": gpus.describe()})

    def _run(self, plan: LoadPlan, watch: Callable[[float], None]) -> LoadResult:
        progress = LoadProgress(progress_stream(), total_s=plan.duration_s)

        def report(tally: Tally, now_s: float) -> None:
            progress(tally, now_s)
            if now_s >= 0:
                watch(now_s)

        result: LoadResult
        if self._fleet is not None and (plan.workers > 1 or self._fleet.external):
            result = load_optional("workers")(plan, self._images, report, self._fleet)
        else:
            result = run_load(plan, self._images, report)
        progress.close()
        return result

    def _summarise(
        self, plan: LoadPlan, result: LoadResult, **blocks: dict[str, Any]
    ) -> dict[str, Any]:
        used = result.service_process
        service = {} if used is None else {"service_process": used}
        blocks = {**self._further, **service, **blocks}
        return build_summary(plan, self._images, result, fingerprint(), **blocks)

    def _part_cores(self, watch: ServiceMonitor, workers: int) -> None:
        """Give the service its cores and the generators theirs."""
        split = split_cores(workers)
        if not split.generators:
            log.info("one core: the generator and the service share it")
            return
        watch.pin(split.service)
        if self._fleet is not None:
            self._fleet = replace(self._fleet, cores=split.generators)
        os.sched_setaffinity(0, split.generators)
        log.info(
            f"the service runs on cores {_names(split.service)}, "
            f"the generator on {_names(split.generators)}"
        )


def _sample(now_s: float, *watches: Watch) -> None:
    for watch in watches:
        watch.sample(now_s)


def _names(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores))

"""A load split among Locust workers, and their samples and histograms put together exactly.

Importing this module imports Locust, which patches the standard library for gevent.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
from gevent.event import AsyncResult
from locust.env import Environment
from locust.exception import RPCError

from loadtest.errors import InvalidMeasurement, LoadTestError, UsageError
from loadtest.extras.distributed.serialization import message_from_plan, report_from_message
from loadtest.extras.distributed.worker_messages import WorkerMessages
from loadtest.generator.environment import load_average
from loadtest.generator.load_result import GeneratorReport, LoadResult
from loadtest.generator.outcome import Tally
from loadtest.generator.process import USER_CLASS
from loadtest.generator.runner import signals_set
from loadtest.generator.users import ImageUser
from loadtest.plan.corpus import CorpusImage, corpus_sha256
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.worker_fleet import Fleet

__all__ = ["run_fleet"]

CONNECT_TIMEOUT_S = 60.0
SETTLE_S = 0.5
"""Between the common start and the first request: spawning."""
SPARE_S = 15.0
"""How much longer than its load a worker may take to report."""


def run_fleet(
    plan: LoadPlan,
    images: Sequence[CorpusImage],
    progress: Callable[[Tally, float], None],
    fleet: Fleet,
) -> LoadResult:
    """Put the load on the service from `plan.workers` processes.

    Each draws its own share of the schedule. On one machine they start within a millisecond of one
    another; on several, within the time that a message takes. Latencies are always differences of
    one worker's clock, so no clocks need to agree.

    Args:
        plan: what to do.
        images: at least one.
        progress: as for `runner.run_load`.
        fleet: where the workers are.

    Raises:
        UsageError: the port is taken, or a worker holds another corpus.
        InvalidMeasurement: the workers did not come.
    """
    load_before = load_average()
    user_class = type(USER_CLASS, (ImageUser,), {"abstract": False, "tasks": [_nothing]})
    master = _open_master(Environment(user_classes=[user_class], host=plan.url), fleet)
    ledger, halt = WorkerMessages(), AsyncResult()
    ledger.listen(master)
    try:
        with _children(plan.workers, master.server.port, fleet) as children, signals_set(halt):
            try:
                clients = _gather(master, ledger, plan, corpus_sha256(images), halt, children)
                if clients:
                    _start(master, ledger, plan, clients)
                    _wait(master, ledger, clients, plan, halt, progress, children)
            finally:
                master.quit()  # the workers end with it
    finally:
        master.server.close(linger=0)
    return _result(plan, ledger, halt, load_before)


def _nothing(user: Any) -> None:
    """The master's users do nothing; only their name and number matter."""


def _open_master(environment: Any, fleet: Fleet) -> Any:
    try:
        return environment.create_master_runner(fleet.bind, fleet.port)
    except (SystemExit, RPCError) as error:  # which of them is a matter of ZeroMQ's version
        raise UsageError(
            f"{fleet.bind}:{fleet.port} cannot be listened on", "name another port with --bind"
        ) from error


@contextmanager
def _children(workers: int, port: int, fleet: Fleet) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers on this machine, which end with the block whatever happens in it."""
    children: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(0 if fleet.external else workers):
            command = [sys.executable, "-m", "loadtest.worker", f"127.0.0.1:{port}"]
            command += ["--corpus", str(fleet.corpus.resolve())]
            if fleet.cores:
                command += ["--core", str(fleet.cores[number % len(fleet.cores)])]
            # A session of its own: a Ctrl-C is for the master, which lets the workers finish.
            children.append(
                subprocess.Popen(
                    command,
                    cwd=Path(__file__).parents[3],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            )
        yield children
    finally:
        _end(children)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in children:
        try:
            child.wait(3)
        except subprocess.TimeoutExpired:
            child.terminate()
    for child in children:
        try:
            child.wait(3)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stderr is not None:
            child.stderr.close()


def _gather(
    master: Any,
    ledger: WorkerMessages,
    plan: LoadPlan,
    digest: str,
    halt: AsyncResult,
    children: Sequence[subprocess.Popen[bytes]],
) -> list[str]:
    """Wait for all workers and compare their images; none when the run was halted meanwhile."""
    deadline_s = time.perf_counter() + CONNECT_TIMEOUT_S
    while len(ledger.digests) < plan.workers:
        if halt.ready():
            return []
        if any(child.poll() is not None for child in children):
            raise LoadTestError("a worker ended before the load began", _last_line(children))
        if time.perf_counter() > deadline_s:
            raise InvalidMeasurement(
                f"{len(ledger.digests)} of {plan.workers} workers came in {CONNECT_TIMEOUT_S:g} s",
                "start the others: python -m loadtest.worker HOST:PORT --corpus IMAGES",
            )
        for client in list(master.clients):
            if client not in ledger.digests:
                master.send_message("load_hello", {}, client_id=client)
        gevent.sleep(0.1)
    clients = sorted(ledger.digests)[: plan.workers]
    if any(ledger.digests[client] != digest for client in clients):
        raise UsageError(
            "a worker holds other images, or expects other labels, than the master",
            "give all of them the same --corpus",
        )
    return clients


def _start(master: Any, ledger: WorkerMessages, plan: LoadPlan, clients: Sequence[str]) -> None:
    message = message_from_plan(plan)
    for number, client in enumerate(clients):
        data = {"plan": message, "worker": number}
        master.send_message("load_plan", data, client_id=client)
    with gevent.Timeout(CONNECT_TIMEOUT_S, False):
        while len(ledger.ready) < len(clients):
            gevent.sleep(0.01)
    begin_s = time.perf_counter() + SETTLE_S + plan.warmup_s
    for client in clients:
        data = {"origin_in_s": begin_s - time.perf_counter()}
        master.send_message("load_begin", data, client_id=client)
    users = plan.users or len(clients)
    gevent.spawn(master.start, users, spawn_rate=users)  # it waits for reports of its own


def _wait(
    master: Any,
    ledger: WorkerMessages,
    clients: Sequence[str],
    plan: LoadPlan,
    halt: AsyncResult,
    progress: Callable[[Tally, float], None],
    children: Sequence[subprocess.Popen[bytes]],
) -> None:
    """Wait for every worker's report, or until those that lack one are gone for good."""
    longest_s = plan.warmup_s + SETTLE_S + plan.duration_s + plan.timeout_s + SPARE_S
    deadline_s = time.perf_counter() + longest_s
    heard_s, told = time.perf_counter(), False
    while (lacking := [one for one in clients if one not in ledger.ends]) and (
        time.perf_counter() < min(deadline_s, heard_s + SPARE_S)
    ):
        if halt.ready() and not told:
            master.send_message("load_halt", {})
            told, deadline_s = True, time.perf_counter() + SPARE_S
        if sum(child.poll() is not None for child in children) >= len(lacking):
            break
        if any(_is_heard(master, client) for client in lacking):
            heard_s = time.perf_counter()
        gevent.sleep(1.0) if told else gevent.wait([halt], timeout=1.0)
        if ledger.tallies:
            progress(ledger, max(tally["now_s"] for tally in ledger.tallies.values()))


def _is_heard(master: Any, client: str) -> bool:
    """Whether Locust still hears a worker's heart beat; a busy one may skip some beats."""
    return client in master.clients and master.clients[client].state != "missing"


def _result(
    plan: LoadPlan, ledger: WorkerMessages, halt: AsyncResult, load_before: Sequence[float]
) -> LoadResult:
    ended = [ledger.samples.get(client, []) for client in ledger.ends]
    reports: list[GeneratorReport] = [
        report_from_message(end["report"]) for end in ledger.ends.values()
    ]
    return LoadResult(
        samples=sorted((one for own in ended for one in own), key=lambda one: one.planned_s),
        duration_s=max((float(end["duration_s"]) for end in ledger.ends.values()), default=0.0),
        abandoned=sum(int(end["abandoned"]) for end in ledger.ends.values()),
        stopped_by=halt.value.name if halt.ready() else None,
        cpu_share=max((report.cpu_share for report in reports), default=0.0),
        load_average_before=load_before,
        load_average_after=load_average(),
        generators=sorted(reports, key=lambda report: report.worker),
        lost_workers=plan.workers - len(ledger.ends),
    )


def _last_line(children: Sequence[subprocess.Popen[bytes]]) -> str:
    for child in children:
        if child.poll() is not None and child.stderr is not None:
            lines = child.stderr.read().decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else f"it gave code {child.returncode} and no reason"
    return ""

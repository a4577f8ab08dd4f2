"""Twice what the service can do: how much of it is still answered well, and how it says no.

    python -m benchmarks.serve_overload RUN PHOTOS [--seconds 60] [--rounds 5] [--slo-ms 100] \
        [--table T.md]

First the number of clients at which the service answers most. Then rounds of: the peak, by that
many clients that wait for their answers; twice that rate, by clients that wait for nobody, each of
whose requests gives the service the SLO as its time; half the peak, to see it recover; the peak
again. Shares are of the mean of the two peaks beside them, so that a machine that slows down during
the run does not pass for an effect. Sender and service run on different cores where there are two.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.open_loop import OpenLoop, Reply, request_bytes
from loadtest.generator.affinity import CoreSplit, on_cores, split_cores
from loadtest.generator.environment import CpuMeter, fingerprint, load_average
from loadtest.plan.schedule import image_picks, poisson_times
from loadtest.result.percentiles import nearest_rank
from serve.client import describe_model
from serve.process.launch import running_server

USERS = (2, 4, 8, 16, 32)
PHOTOS = 200
OVER = 2.0
RECOVERY_S = 5.0
LIMITS = {"goodput": 0.90, "p99_of_slo": 2.0, "refusal_ms": 50.0}


@dataclass(frozen=True)
class Round:
    """What one overload gave.

    Args:
        peak: answers per second around it.
        offered: requests per second.
        goodput: answers within twice the SLO, per second, over `peak`.
        p99_ms: of answers of status 200, from the time they were due.
        refusal_ms: p99 of the time that a 503 took.
        with_retry_after: share of the 503s that say when to come back.
        statuses: how many answers of each.
        recovered_ms: p99 at half the peak, right after.
        lateness_ms: p99 of how late requests left.
        sender: CPU seconds per second of the sender.
    """

    peak: float
    offered: float
    goodput: float
    p99_ms: float
    refusal_ms: float
    with_retry_after: float
    statuses: Counter[int]
    recovered_ms: float
    lateness_ms: float
    sender: float


@dataclass(frozen=True)
class Bench:
    """What all measurements share.

    Args:
        hurried: sends requests that give the SLO as their time.
        patient: sends requests that give none.
        slo_ms: of the latency.
        seconds: of an overload.
        peak_s: of a measurement of the peak.
    """

    hurried: OpenLoop
    patient: OpenLoop
    slo_ms: int
    seconds: float
    peak_s: float


def best_users(bench: Bench, seed: int) -> int:
    """The number of waiting clients with which the service answers most."""
    order = random.Random(seed).sample(USERS, len(USERS))
    rates = {users: peak_rate(bench, users) for users in order}
    return max(rates, key=rates.__getitem__)


def peak_rate(bench: Bench, users: int) -> float:
    """Answers of status 200 per second."""
    replies = bench.patient.saturate(users, bench.peak_s)
    good = sum(reply.status == httpx.codes.OK for reply in replies)
    return good / max(reply.done_s for reply in replies)


def measure_round(bench: Bench, users: int, seed: int) -> Round:
    """Peak, overload, recovery, peak."""
    before = peak_rate(bench, users)
    times_s = poisson_times(rate=OVER * before, duration_s=bench.seconds, seed=seed)
    meter = CpuMeter()
    meter.start()
    replies = bench.hurried.offer(times_s)
    meter.stop()
    calm_s = poisson_times(rate=before / 2, duration_s=RECOVERY_S, seed=seed + 1)
    recovered = bench.hurried.offer(calm_s)
    peak = (before + peak_rate(bench, users)) / 2
    return round_of(replies, recovered, peak, meter.share, bench)


def round_of(
    replies: list[Reply], recovered: list[Reply], peak: float, sender: float, bench: Bench
) -> Round:
    """The figures of an overload."""
    taken = [reply for reply in replies if reply.status == httpx.codes.OK]
    refused = [reply for reply in replies if reply.status == httpx.codes.SERVICE_UNAVAILABLE]
    limit_ms = LIMITS["p99_of_slo"] * bench.slo_ms
    good = sum(reply.latency_ms <= limit_ms for reply in taken)
    return Round(
        peak=peak,
        offered=len(replies) / bench.seconds,
        goodput=good / bench.seconds / peak,
        p99_ms=p99([reply.latency_ms for reply in taken]),
        refusal_ms=p99([(reply.done_s - reply.sent_s) * 1e3 for reply in refused]),
        with_retry_after=sum(one.retry_after for one in refused) / max(1, len(refused)),
        statuses=Counter(reply.status for reply in replies),
        recovered_ms=p99([one.latency_ms for one in recovered if one.status == httpx.codes.OK]),
        lateness_ms=p99([(reply.sent_s - reply.due_s) * 1e3 for reply in replies]),
        sender=sender,
    )


def p99(values: list[float]) -> float:
    """Nearest rank; 0 of nothing."""
    return nearest_rank(sorted(values), 99) if values else 0.0


def report(rounds: list[Round], bench: Bench, conditions: list[str]) -> str:
    """Markdown: a row a round, then the medians against their limits."""
    lines = [
        "# Twice what the service can do",
        "",
        f"    python -m benchmarks.serve_overload ARTIFACT PHOTOS --rounds {len(rounds)} "
        f"--seconds {bench.seconds:g} --slo-ms {bench.slo_ms}",
        "",
        *conditions,
        "",
        "| peak, 1/s | offered, 1/s | goodput / peak | p99 of 200, ms | p99 of 503, ms "
        "| with Retry-After | p99 after, ms | late, p99, ms | sender's core | statuses |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in rounds:
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(one.statuses.items()))
        lines.append(
            f"| {one.peak:.0f} | {one.offered:.0f} | {one.goodput:.2f} | {one.p99_ms:.0f} "
            f"| {one.refusal_ms:.1f} | {one.with_retry_after:.1%} | {one.recovered_ms:.0f} "
            f"| {one.lateness_ms:.1f} | {one.sender:.0%} | {statuses} |"
        )
    shown = [
        ("goodput over peak", [one.goodput for one in rounds], LIMITS["goodput"], 2),
        ("p99 of 200, ms", [one.p99_ms for one in rounds], LIMITS["p99_of_slo"] * bench.slo_ms, 0),
        ("p99 of 503, ms", [one.refusal_ms for one in rounds], LIMITS["refusal_ms"], 1),
    ]
    lines += ["", "| | median (lowest to highest round) | wanted |", "|---|---|---|"]
    for name, values, limit, digits in shown:
        figures = [f"{value:.{digits}f}" for value in (median(values), min(values), max(values))]
        wanted = ("at least " if limit == LIMITS["goodput"] else "at most ") + f"{limit:g}"
        lines.append(f"| {name} | {figures[0]} ({figures[1]} to {figures[2]}) | {wanted} |")
    return "\n".join(lines)


def conditions_of(bench: Bench, url: str, users: int, split: CoreSplit) -> list[str]:
    """What a reader needs to judge the figures."""
    machine = fingerprint()
    model = describe_model(url)
    versions = ", ".join(
        f"{name} {metadata.version(name)}"
        for name in ("bentoml", "uvicorn", "onnxruntime", "pillow")
    )
    cores = f"service on {split.service}, sender on {split.generators}" if split.service else "one"
    return [
        f"{model['name']} {model['version']}, {model['backend']}; {users} clients at the peak; "
        f"{OVER:g} times the peak for {bench.seconds:g} s, Poisson; SLO {bench.slo_ms} ms.",
        f"{machine['cpu_model']}, {machine['cpu_count']} CPU cores ({cores}), Python "
        f"{platform.python_version()}, {versions}; load average at the end {load_average()[0]}.",
    ]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add: Any = parser.add_argument
    add("run", type=Path, help="run or artifact folder")
    add("photos", type=Path, help="folder of JPEGs")
    add("--seconds", type=float, default=60.0, help="of each overload")
    add("--peak-seconds", type=float, default=10.0, help="of each measurement of the peak")
    add("--rounds", type=int, default=5)
    add("--slo-ms", type=int, default=100)
    add("--seed", type=int, default=0)
    add("--table", type=Path, help="file for the report, too")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Serve, measure, print."""
    given = parse(arguments)
    split = split_cores()
    files = sorted(given.photos.rglob("*.jpg"))
    picks = image_picks(images=len(files), seed=given.seed)
    images = [files[next(picks)].read_bytes() for _ in range(PHOTOS)]
    with ExitStack() as stack:
        with on_cores(split.service):  # what starts now stays there
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
            url = stack.enter_context(running_server(given.run, log_path=log))
        stack.enter_context(on_cores(split.generators))
        parts = httpx.URL(url)
        slo = {"x-request-timeout-ms": str(given.slo_ms)}
        loops = [
            OpenLoop(
                parts.host, parts.port or 80, [request_bytes(parts.host, one, h) for one in images]
            )
            for h in (slo, {})
        ]
        bench = Bench(*loops, given.slo_ms, given.seconds, given.peak_seconds)
        users = best_users(bench, given.seed)
        rounds = []
        for number in range(given.rounds):
            rounds.append(measure_round(bench, users, given.seed + 2 * number))
            sys.stderr.write(f"round {number + 1} of {given.rounds}: {rounds[-1]}\n")
        text = report(rounds, bench, conditions_of(bench, url, users, split)) + "\n"
    sys.stdout.write(text)
    if given.table:
        given.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

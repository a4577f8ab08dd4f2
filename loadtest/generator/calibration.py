"""What the generator manages alone: the same images and schedule against a server without work.

Importing this module imports Locust, which patches the standard library for gevent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from loadtest.generator.affinity import on_cores, split_cores
from loadtest.generator.load_result import LoadResult
from loadtest.generator.null_server import running_null_server
from loadtest.generator.outcome import Tally
from loadtest.generator.runner import run_load
from loadtest.plan.corpus import CorpusImage
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.target import Target
from loadtest.result.percentiles import describe_ms

__all__ = ["calibrate", "p99_change"]

CAPACITY_USERS = 8
CAPACITY_S = 2.0
LATENESS_S = 3.0


def calibrate(
    plan: LoadPlan, images: Sequence[CorpusImage], *, duration_s: float = CAPACITY_S
) -> dict[str, Any]:
    """The rate that one generator reaches with nothing to wait for, and how late it sends.

    The images and the form of the request are those of the plan, so copying and sending bodies is
    part of it; so is reading the reply, but it is our own form of reply.

    Args:
        plan: what is to be measured afterwards; its rate, split among its workers, is tried.
        images: what is to be sent.
        duration_s: of the closed loop that finds the capacity.

    Returns:
        `capacity_rps` of all workers together, supposing that each has a core; `rate_share`, the
        plan's rate over it (None without a rate); `lateness_p99_ms` of one worker at its share of
        the rate, for 3 s at most.
    """
    sent = [replace(image, expected="") for image in images]
    cores = split_cores().generators  # where the empty server is not
    with running_null_server() as url, on_cores(cores):
        target = replace(Target(), field=plan.target.field, headers=plan.target.headers)
        closed = LoadPlan(
            url=url, users=CAPACITY_USERS, duration_s=duration_s, warmup_s=0.3, target=target
        )
        result = run_load(closed, sent, _silent)
        answered = sum(sample.outcome.replied for sample in result.samples)
        capacity = answered / result.duration_s * plan.workers if result.duration_s else 0.0
        lateness_ms = None
        if plan.rate is not None:
            share = plan.rate / plan.workers
            opened = LoadPlan(
                url=url,
                rate=share,
                duration_s=min(LATENESS_S, plan.duration_s),
                warmup_s=0.3,
                seed=plan.seed,
                target=target,
            )
            late = run_load(opened, sent, _silent).samples
            lateness_ms = describe_ms([s.lateness_ms for s in late if s.lateness_ms is not None])
    return {
        "capacity_rps": round(capacity, 1),
        "rate_share": round(plan.rate / capacity, 4) if plan.rate and capacity else None,
        "lateness_p99_ms": None if lateness_ms is None else lateness_ms["p99_ms"],
    }


def p99_change(summary: dict[str, Any], doubled: LoadResult) -> dict[str, Any]:
    """What twice the generators at the same rate did to p99: nothing, if they are no limit."""
    one = summary["intended"]["p99_ms"]
    values = [s.intended_ms for s in doubled.samples if s.intended_ms is not None]
    two = describe_ms(values)["p99_ms"]
    known = bool(one) and two is not None
    return {
        "workers": 2 * summary["workers"],
        "n": len(values),
        "p99_ms": two,
        "p99_change": round(two / one - 1, 4) if known else None,
    }


def _silent(log: Tally, now_s: float) -> None:
    """Calibrating is short; nobody wants to read about it."""

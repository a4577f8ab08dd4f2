"""Differences of two sets of runs, with intervals: a bootstrap over blocks of requests.

Requests of one moment share its luck, so whole blocks are drawn: repeats where each side has at
least three, else tenths of a run's time. Tenths of one run share that run's luck, so repeats tell
more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.result.folder import Run
from loadtest.result.percentiles import rank_of_percentile

__all__ = ["LatencyDifference", "compare_runs", "is_over_repeats"]

RESAMPLES = 2000
TENTHS = 10
ENOUGH_REPEATS = 3


@dataclass(frozen=True)
class Block:
    """Requests that are resampled together.

    Attributes:
        seconds: the time in which they were due.
        intended_ms: ascending latencies; infinite without a right prediction.
        good: how many ended as `ok`.
    """

    seconds: float
    intended_ms: NDArray[np.float64]
    good: int


@dataclass(frozen=True)
class LatencyDifference:
    """One figure of both sides.

    Attributes:
        name: with its unit.
        first: of A; `second` of B. None where it falls on a request without a right prediction.
        low: lower end of the 95 % interval of B - A; `high` its upper one. None where unknown.
        more_is_worse: whether a rise is a loss.
    """

    name: str
    first: float | None
    second: float | None
    low: float | None
    high: float | None
    more_is_worse: bool = True

    @property
    def verdict(self) -> str:
        """`worse`, `better`, or `no difference shown`."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "no difference shown"
        return "worse" if (self.low > 0) == self.more_is_worse else "better"


def is_over_repeats(first: Sequence[Run], second: Sequence[Run]) -> bool:
    """Whether the blocks are whole runs."""
    return min(len(first), len(second)) >= ENOUGH_REPEATS


def compare_runs(
    first: Sequence[Run], second: Sequence[Run], *, seed: int = 0
) -> list[LatencyDifference]:
    """Figures of both sides, with intervals of their differences.

    Args:
        first: A, one run or repeats of it.
        second: B.
        seed: of the bootstrap.
    """
    whole = is_over_repeats(first, second)
    blocks = (_blocks(first, whole=whole), _blocks(second, whole=whole))
    rng = np.random.default_rng(seed)
    draws = [[rng.integers(len(side), size=len(side)) for _ in range(RESAMPLES)] for side in blocks]
    figures: list[tuple[str, Callable[[Sequence[Block]], float], bool]] = [
        ("p50 ms", lambda some: _percentile(some, 50), True),
        ("p99 ms", lambda some: _percentile(some, 99), True),
        ("errors %", _errors, True),
        ("good/s", lambda some: sum(b.good for b in some) / sum(b.seconds for b in some), False),
    ]
    found = []
    for name, figure, more_is_worse in figures:
        resampled = [
            np.array([figure([side[index] for index in draw]) for draw in of_side])
            for side, of_side in zip(blocks, draws, strict=True)
        ]
        with np.errstate(invalid="ignore"):
            gaps = np.sort(resampled[1] - resampled[0])
        low, high = gaps[round(0.025 * RESAMPLES)], gaps[round(0.975 * RESAMPLES) - 1]
        known = bool(np.isfinite(gaps).all())
        found.append(
            LatencyDifference(
                name,
                _finite(figure(blocks[0])),
                _finite(figure(blocks[1])),
                float(low) if known else None,
                float(high) if known else None,
                more_is_worse,
            )
        )
    return found


def _blocks(runs: Sequence[Run], *, whole: bool) -> list[Block]:
    if whole:
        return [_block(run, np.ones(len(run.good), dtype=bool), 1.0) for run in runs]
    found = []
    for run in runs:
        span_s = run.summary["duration_s"] / TENTHS
        tenth = np.clip((np.asarray(run.planned_s) // span_s).astype(int), 0, TENTHS - 1)
        found += [_block(run, tenth == number, 1 / TENTHS) for number in range(TENTHS)]
    return found


def _block(run: Run, chosen: NDArray[np.bool_], share: float) -> Block:
    latencies = np.sort(np.asarray(run.intended_ms)[chosen])
    good = int(np.asarray(run.good)[chosen].sum())
    return Block(run.summary["duration_s"] * share, latencies, good)


def _percentile(blocks: Sequence[Block], percentile: float) -> float:
    pooled = np.concatenate([block.intended_ms for block in blocks])
    if not pooled.size:
        return math.inf
    rank = rank_of_percentile(percentile, pooled.size) - 1
    return float(np.partition(pooled, rank)[rank])


def _errors(blocks: Sequence[Block]) -> float:
    requests = sum(block.intended_ms.size for block in blocks)
    return 100 * (1 - sum(block.good for block in blocks) / requests) if requests else 0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""How throughput scales with clients: the Universal Scalability Law, fitted, and its knee.

    X(N) = rate N / (1 + contention (N - 1) + coherency N (N - 1))

`contention` is the share of work that waits for its turn, `coherency` what each pair costs; with
both 0, twice the clients are twice the throughput.

Source: Gunther 2007, "Guerrilla Capacity Planning", chapter 4; the knee is the crossing of the
asymptotes of Denning and Buzen 1978, "The operational analysis of queueing network models".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

__all__ = ["Usl", "fit_usl"]


@dataclass(frozen=True, slots=True)
class Usl:
    """A fitted law.

    Attributes:
        rate: throughput of one client, > 0.
        contention: >= 0.
        coherency: >= 0.
        r2: share of the throughputs' variance that the law explains; 1 is all.
    """

    rate: float
    contention: float
    coherency: float
    r2: float

    def throughput(self, users: float) -> float:
        """Requests per second with so many clients."""
        return _throughput(self.rate, self.contention, self.coherency, users)

    @property
    def peak_users(self) -> float:
        """Clients with the highest throughput; infinite where it never falls."""
        if not self.coherency:
            return math.inf
        return max(1.0, math.sqrt(max(1 - self.contention, 0.0) / self.coherency))

    @property
    def peak_rps(self) -> float:
        """The highest throughput, or what it tends to; infinite where it keeps growing."""
        if self.coherency:
            return self.throughput(self.peak_users)
        return self.rate / self.contention if self.contention else math.inf

    @property
    def knee_users(self) -> float:
        """Clients at which perfect scaling would reach the peak: more of them mostly queue."""
        return self.peak_rps / self.rate


def fit_usl(points: Sequence[tuple[float, float]]) -> Usl | None:
    """Least squares of the relative error, with no coefficient below 0.

    N / X is linear in the three unknowns 1 / rate, contention / rate and coherency / rate; of all
    sets of unknowns held at 0, the best admissible solution is the constrained optimum.

    Args:
        points: (clients, requests per second), both > 0.

    Returns:
        The law; None with fewer than three different numbers of clients.
    """
    if len({users for users, _ in points}) < 3:
        return None
    rows = [(1.0, users - 1, users * (users - 1)) for users, _ in points]
    weighted = [
        (tuple(term * rps / users for term in row), 1.0)
        for row, (users, rps) in zip(rows, points, strict=True)
    ]
    best: tuple[float, tuple[float, ...]] | None = None
    for size in (3, 2, 1):
        for kept in combinations(range(3), size):
            solution = _solve(weighted, kept)
            if 0 in kept and solution and solution[0] > 0 and min(solution) >= 0:
                error = sum(
                    (sum(c * t for c, t in zip(solution, row, strict=True)) - goal) ** 2
                    for row, goal in weighted
                )
                if best is None or error < best[0] - 1e-15:
                    best = (error, solution)
    if best is None:
        return None
    scale, contention, coherency = best[1]
    rate, contention, coherency = 1 / scale, contention / scale, coherency / scale
    return Usl(rate, contention, coherency, _r2(points, rate, contention, coherency))


def _throughput(rate: float, contention: float, coherency: float, users: float) -> float:
    return rate * users / (1 + contention * (users - 1) + coherency * users * (users - 1))


def _r2(
    points: Sequence[tuple[float, float]], rate: float, contention: float, coherency: float
) -> float:
    mean = math.fsum(rps for _, rps in points) / len(points)
    total = math.fsum((rps - mean) ** 2 for _, rps in points)
    left = math.fsum((rps - _throughput(rate, contention, coherency, n)) ** 2 for n, rps in points)
    return 1 - left / total if total else 1.0


def _solve(
    rows: Sequence[tuple[tuple[float, ...], float]], kept: Sequence[int]
) -> tuple[float, ...] | None:
    """Normal equations over some of the unknowns, by elimination; the others are 0."""
    table = [
        [math.fsum(row[i] * row[j] for row, _ in rows) for j in kept]
        + [math.fsum(row[i] * goal for row, goal in rows)]
        for i in kept
    ]
    size = len(kept)
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(table[line][column]))
        if abs(table[pivot][column]) < 1e-18:
            return None
        table[column], table[pivot] = table[pivot], table[column]
        for line in range(size):
            if line != column:
                factor = table[line][column] / table[column][column]
                table[line] = [
                    a - factor * b for a, b in zip(table[line], table[column], strict=True)
                ]
    found = {kept[i]: table[i][size] / table[i][i] for i in range(size)}
    return tuple(found.get(i, 0.0) for i in range(3))

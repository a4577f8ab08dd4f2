"""samples.csv of a load test as arrays."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Samples", "read_samples"]

# As `loadtest.result.summary` defines its latency population: a whole reply, or the wait for one.
TIMED = frozenset({"ok", "wrong_answer", "http_error", "timeout"})


@dataclass(frozen=True)
class Samples:
    """The timed requests of a measured window, by planned time.

    Args:
        planned_s: (N,) since the start of the window.
        intended_ms: (N,) from the planned sending to the end.
        service_ms: (N,) from the actual sending to the end.
        right: (N,) whether the answer was the expected one.
    """

    planned_s: NDArray[np.float64]
    intended_ms: NDArray[np.float64]
    service_ms: NDArray[np.float64]
    right: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.planned_s)


def read_samples(path: Path) -> Samples:
    """Read samples.csv; requests that were never sent or lost have no latency and are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["outcome"] in TIMED and row["intended_ms"] and row["service_ms"]
        ]
    return Samples(
        planned_s=_column(rows, "planned_s"),
        intended_ms=_column(rows, "intended_ms"),
        service_ms=_column(rows, "service_ms"),
        right=np.array([row["outcome"] == "ok" for row in rows], dtype=bool),
    )


def _column(rows: list[dict[str, str]], name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows], dtype=np.float64)

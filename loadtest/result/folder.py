"""Results of load tests, as they lie on disk: one run, repeats of it, or a max rate."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.errors import UsageError
from loadtest.result.summary import SCHEMA_VERSION

__all__ = [
    "MAX_RATE",
    "REPORT",
    "SAMPLES",
    "SUMMARY",
    "Run",
    "latency_of_row",
    "read_json",
    "read_run",
    "read_runs",
]

SUMMARY, SAMPLES = "summary.json", "samples.csv"
MAX_RATE, REPORT = "promise.json", "report.html"


@dataclass(frozen=True)
class Run:
    """One load.

    Attributes:
        folder: where it lies.
        summary: its summary.json.
        planned_s: when each request was due, from the start of the measured window.
        intended_ms: latency of each; infinite without a right prediction.
        good: whether each ended as `ok`.
    """

    folder: Path
    summary: dict[str, Any]
    planned_s: Sequence[float]
    intended_ms: Sequence[float]
    good: Sequence[bool]


def read_runs(folder: Path) -> list[Run]:
    """The run in a folder, or else those in the folders right below it.

    Raises:
        UsageError: there is none, or one is damaged.
    """
    if (folder / SUMMARY).is_file():
        return [read_run(folder)]
    below = sorted(one.parent for one in folder.glob(f"*/{SUMMARY}"))
    if not below:
        raise UsageError(
            f"{folder} holds no results of a load test",
            f"expected {SUMMARY} there, or in folders below it",
        )
    return [read_run(one) for one in below]


def read_run(folder: Path) -> Run:
    """One run.

    Raises:
        UsageError: a file is missing or damaged.
    """
    summary = read_json(folder / SUMMARY)
    if summary.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"{folder / SUMMARY} has schema version {summary.get('schema_version')!r}, not "
            f"{SCHEMA_VERSION}",
            "read it with the version of stillroom that wrote it",
        )
    try:
        with (folder / SAMPLES).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        run = Run(
            folder,
            summary,
            [float(row["planned_s"]) for row in rows],
            [latency_of_row(row) for row in rows],
            [row["outcome"] == "ok" for row in rows],
        )
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise _damaged(folder / SAMPLES) from error
    if len(rows) != summary.get("planned") or not rows:
        raise _damaged(folder / SAMPLES)
    return run


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UsageError: missing, or no such file.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(value, dict):
        raise _damaged(path)
    return value


def latency_of_row(row: dict[str, str]) -> float:
    """What a row of samples.csv counts as for an objective: ms, infinite unless it is right."""
    is_right = row["outcome"] == "ok" and row["intended_ms"]
    return float(row["intended_ms"]) if is_right else math.inf


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path} is missing or damaged", "repeat the load test")

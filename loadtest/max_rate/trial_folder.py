"""What one load of a search shows, read from the files that it wrote."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

from loadtest.max_rate.search import RateTrial
from loadtest.plan.slo import Slo
from loadtest.result.folder import latency_of_row
from loadtest.result.verdict import Status

__all__ = ["trial_from_folder"]

CERTAIN = ("wrong_answer", "http_error", "connection_error")
GROWTH = 1.5  # of the median from the first to the last third, beyond which a queue grows


def trial_from_folder(folder: Path, slo: Slo) -> RateTrial:
    """What the raw samples of one load show.

    Args:
        folder: with summary.json and samples.csv.
        slo: the objective.
    """
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_bytes())
    with (folder / "samples.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    latencies = [latency_of_row(row) for row in rows]
    return RateTrial(
        rate=float(summary["target_rps"]),
        requests=len(rows),
        slow=sum(latency_ms > slo.target_ms for latency_ms in latencies),
        steady=_steady(rows, slo.target_ms),
        problem="" if _fails_anyway(rows, slo) else _problem(summary),
    )


def _fails_anyway(rows: list[dict[str, str]], slo: Slo) -> bool:
    """Whether errors and wrong predictions, which no late generator makes, are too many alone."""
    certain = sum(row["outcome"] in CERTAIN for row in rows)
    return certain > 0 and RateTrial(0.0, len(rows), certain).verdict(slo.allowed) is Status.FAILED


def _steady(rows: list[dict[str, str]], target_ms: float) -> bool:
    """Whether the median of the last third is near that of the first: else a queue grows.

    Nor is a service steady that no longer answers.
    """
    third = len(rows) // 3
    medians = [
        statistics.median([float(row["intended_ms"] or math.inf) for row in part] or [0.0])
        for part in (rows[:third], rows[-third:] if third else [])
    ]
    return medians[1] < math.inf and medians[1] <= GROWTH * medians[0] + 0.05 * target_ms


def _problem(summary: dict[str, Any]) -> str:
    """Why the generator, not the service, may have made these figures."""
    for rule in summary["validity"]["rules"]:
        if not rule["held"]:
            said: str = rule["text"].partition(";")[0].rstrip(".")
            return said[0].lower() + said[1:]
    return ""

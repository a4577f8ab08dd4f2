"""What one load of a search shows, read from the files that it wrote."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

from loadtest.search import Probe
from loadtest.slo import Slo

__all__ = ["probe_from_folder"]

GROWTH = 1.5  # of the median from the first to the last third, beyond which a queue grows


def probe_from_folder(folder: Path, slo: Slo) -> Probe:
    """What the raw samples of one load show.

    Args:
        folder: with summary.json and samples.csv.
        slo: the objective.
    """
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_bytes())
    with (folder / "samples.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    slow = [
        row["outcome"] != "ok"
        or not row["intended_ms"]
        or float(row["intended_ms"]) > slo.target_ms
        for row in rows
    ]
    return Probe(
        rate=float(summary["target_rps"]),
        requests=len(rows),
        slow=sum(slow),
        steady=_steady(rows, slo.target_ms),
        problem=_problem(summary),
    )


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

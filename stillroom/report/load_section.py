"""What the report shows of the load tests: figures side by side, curves, warnings, environment."""

from __future__ import annotations

from typing import Any

from loadtest.result.verdict import status_of, status_of_slo
from stillroom.report.charts.load import (
    MAX_POINTS,
    draw_over_time,
    draw_percentiles,
    latency_limits,
)
from stillroom.report.charts.samples import read_samples
from stillroom.report.facts import Facts
from stillroom.run.folder import RunFolder

__all__ = ["cores_of", "load_section", "stage_split"]

MODES = ("open", "closed")
PARTS = ("decode", "queue", "infer")


def load_section(run: RunFolder, facts: Facts) -> dict[str, Any]:
    """Both loads; the open one first, because it is the one that an objective is judged by."""
    samples = {mode: read_samples(run.stage("loadtest") / mode / "samples.csv") for mode in MODES}
    slo = facts.loads["open"].get("slo")
    limits = latency_limits(list(samples.values()), slo)
    panels = []
    for mode in MODES:
        load, data = facts.loads[mode], samples[mode]
        objective = load.get("slo")
        planned = mode == "open"
        panels.append(
            {
                "mode": mode,
                "percentiles": draw_percentiles(
                    data, objective, limits, name=f"percentiles-{mode}", planned=planned
                ),
                "over_time": draw_over_time(data, objective, limits, name=f"over-time-{mode}"),
                "thinned": int(data.right.sum()) > MAX_POINTS,
                "stages": stage_split(load["stage_means_ms"]),
                "total_ms": load["stage_means_ms"].get("total_ms"),
            }
        )
    return {
        "loads": [_judged(facts.loads[mode]) for mode in MODES],
        "panels": panels,
        "warnings": [(m, text) for m in MODES for text in facts.loads[m]["warnings"]],
        "environment": facts.loads["open"]["environment"],
        "pages": [m for m in MODES if (run.stage("loadtest") / m / "report.html").is_file()],
        "cores": cores_of(facts.loads["open"]),
        "models": facts.loads["open"]["models"],
    }


def _judged(load: dict[str, Any]) -> dict[str, Any]:
    objective = status_of_slo(load).value if load.get("slo") else None
    return {**load, "status": status_of(load).value, "objective": objective}


def cores_of(load: dict[str, Any]) -> str:
    """Who ran on which cores, in words; loads of before that was known say nothing of it."""
    service = (load.get("service_process") or {}).get("pinned_cores") or []
    generators = sorted({core for one in load.get("generators", ()) for core in one["cores"]})
    if not service:
        return "shared by the service and the generator"
    return f"{_cores(service)} for the service, {_cores(generators)} for the generator"


def _cores(numbers: list[int]) -> str:
    return f"{len(numbers)} {'core' if len(numbers) == 1 else 'cores'}"


def stage_split(means_ms: dict[str, float | None]) -> list[tuple[str, float, float]]:
    """Where the server's time went: (stage, mean ms, percentage of the total).

    What the named stages do not cover (reading the request, writing the reply) is "other".
    """
    total = means_ms.get("total_ms")
    if not total:
        return []
    parts = [(name, means_ms.get(f"{name}_ms") or 0.0) for name in PARTS]
    rest = max(0.0, total - sum(value for _, value in parts))
    return [(name, value, 100 * value / total) for name, value in (*parts, ("other", rest))]

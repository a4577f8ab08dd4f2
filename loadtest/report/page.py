"""The page: verdict first, then what it rests on.

It is made from the files that it stands beside, so that `python -m loadtest.report FOLDER` makes
the same page of an old result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from loadtest.errors import UsageError
from loadtest.report.charts import (
    draw_heat,
    draw_percentiles,
    draw_probes,
    draw_processes,
    draw_rates,
    draw_saturation,
)
from loadtest.report.command import command_of
from loadtest.report.figures import Percentile, failures_of, percentile_rows, read_rows, seconds_of
from loadtest.report.verdict import max_rate_verdict, run_verdict
from loadtest.result.files import write_files
from loadtest.result.folder import MAX_RATE, REPORT, SAMPLES, SUMMARY, read_json
from loadtest.result.verdict import Status, status_of_step

__all__ = ["load_template", "write_report"]

SCHEMA = Path(__file__).parents[1] / "summary.schema.json"
MAX_RATE_KEYS = ("confirmations", "limit", "note", "probes", "rate_rps", "refused_rps", "slo")


def write_report(folder: Path) -> Path:
    """Write report.html of a load, or of a max rate, beside its files.

    Args:
        folder: with summary.json and samples.csv, or promise.json and probes/.

    Returns:
        The file.

    Raises:
        UsageError: the result is missing, or it is damaged.
        LoadTestError: the page cannot be written.
    """
    if (folder / MAX_RATE).is_file():
        page = _max_rate_page(folder)
    elif (folder / SUMMARY).is_file():
        page = _run_page(folder)
    else:
        raise UsageError(
            f"{folder} holds no results of a load test", f"expected {SUMMARY} or {MAX_RATE} in it"
        )
    write_files(folder, {REPORT: page})
    return folder / REPORT


def _run_page(folder: Path) -> str:
    summary = _read_summary(folder)
    verdict = run_verdict(summary)
    parts = _parts(folder, summary)
    return _render(
        title=f"Load test: {summary['scenario']}", verdict=verdict, max_rate=None, **parts
    )


def _max_rate_page(folder: Path) -> str:
    max_rate = read_json(folder / MAX_RATE)
    _check_keys(folder / MAX_RATE, max_rate, MAX_RATE_KEYS)
    probes, shown = _probes(folder, max_rate)
    parts = _parts(shown, _read_summary(shown)) if shown else {"run": None}
    return _render(
        title="Max rate",
        verdict=max_rate_verdict(max_rate),
        max_rate={
            **max_rate,
            "probes": probes,
            "chart": Markup(draw_probes(probes, max_rate["slo"])) if probes else "",
            "shown": shown.name if shown else "",
        },
        **parts,
    )


def _probes(folder: Path, max_rate: dict[str, Any]) -> tuple[list[dict[str, Any]], Path | None]:
    """Each probe with the percentile it saw, and the folder of the last at the max rate.

    Without a max rate, the last probe of all is shown.
    """
    found = []
    shown: Path | None = None
    for number, probe in enumerate(max_rate["probes"], 1):
        place = folder / "probes" / f"{number:02d}"
        seen = None
        if (place / SUMMARY).is_file():
            seen = _read_summary(place).get("slo", {}).get("observed_ms")
            if not max_rate["rate_rps"] or probe["rate"] == max_rate["rate_rps"]:
                shown = place
        verdict = Status(probe["verdict"]).value  # in today's words
        found.append({**probe, "verdict": verdict, "number": number, "observed_ms": seen})
    return found, shown


def _read_summary(folder: Path) -> dict[str, Any]:
    summary = read_json(folder / SUMMARY)
    schema = json.loads(SCHEMA.read_bytes())
    _check_keys(folder / SUMMARY, summary, schema["required"])
    return summary


def _check_keys(path: Path, value: dict[str, Any], keys: Iterable[str]) -> None:
    if missing := sorted(set(keys) - value.keys()):
        raise UsageError(f"{path} has no {', '.join(missing[:3])}", "repeat the load test")


def _parts(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """What is shown of one load."""
    rows = read_rows(folder / SAMPLES)
    slo, duration_s = summary.get("slo"), summary["duration_s"] or 1.0
    any_reply = any(row.replied and row.intended_ms for row in rows)
    is_open = summary["mode"] == "open"
    watched = summary.get("service_process")
    seconds = seconds_of(rows, duration_s)
    charts = {"rates": draw_rates(seconds, is_open=is_open)}
    if any_reply:
        charts["percentiles"] = draw_percentiles(rows, slo, is_open=is_open)
        charts["heat"] = draw_heat(rows, duration_s, slo, is_open=is_open)
    charts |= _processes(summary)
    steps = (summary.get("saturation") or {}).get("steps", [])
    if any(step["p50_ms"] for step in steps):
        charts["saturation"] = draw_saturation(steps)
    return {
        "run": summary,
        "is_open": is_open,
        "charts": {name: Markup(text) for name, text in charts.items()},
        "percentiles": percentile_rows(rows),
        "seconds": seconds,
        "failures": failures_of(rows),
        "stages": _stages(summary["stage_means_ms"]),
        "command": command_of(summary),
        "watched": watched,
    }


def _processes(summary: dict[str, Any]) -> dict[str, str]:
    """CPU and memory over time, of the service where it was watched, and of each generator."""
    sources = [
        ("service", "generator", one, one.get("cpu_shares", ())) for one in summary["generators"]
    ]
    if watched := summary.get("service_process"):
        sources.insert(0, ("intended", "service", watched, watched["cpu_share"]))
    gpus = (watched or {}).get("gpus", [])  # none in a result of before they were watched
    told = [source for source in sources if source[2].get("time_s")]
    if not told:
        return {}
    cpu = [(kind, words, one["time_s"], shares) for kind, words, one, shares in told]
    memory = [(kind, words, one["time_s"], one["rss_mib"]) for kind, words, one, _ in told]
    found = {
        "cpu": draw_processes("CPU", "cores", cpu),
        "memory": draw_processes("Resident memory", "MiB", memory),
    }
    if gpus:
        busy = [("intended", "busy", one["time_s"], one["busy_share"]) for one in gpus]
        used = [("intended", "in use", one["time_s"], one["memory_mib"]) for one in gpus]
        found["gpu"] = draw_processes("GPU", "share of the time", busy)
        found["gpu_memory"] = draw_processes("GPU memory", "MiB", used)
    return found


def _stages(means: dict[str, float | None]) -> list[tuple[str, float, float]]:
    """(stage, mean ms, share of the total), with what no stage covers as `other`."""
    total = means.get("total_ms")
    if not total:
        return []
    named = [
        (name.removesuffix("_ms"), value)
        for name, value in means.items()
        if name != "total_ms" and value is not None
    ]
    rest = max(0.0, total - sum(value for _, value in named))
    return [(name, value, value / total) for name, value in (*named, ("other", rest))]


def _interval(row: Percentile) -> str:
    """In words; open where so many requests do not tell."""
    if row.name == "max":
        return ""
    low = "" if row.low_ms is None else f"{row.low_ms:.1f}"
    high = "" if row.high_ms is None else f"{row.high_ms:.1f}"
    if low and high:
        return f"{low} to {high} ms"
    return f"from {low} ms" if low else f"up to {high} ms" if high else "not known"


def load_template() -> Template:
    """The page's template, with all that it includes at hand."""
    environment = Environment(
        loader=PackageLoader("loadtest.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ms"] = lambda value: "no answer" if value is None else f"{value:.1f} ms"
    environment.filters["interval"] = _interval
    environment.filters["percent"] = lambda value, digits=1: f"{100 * value:.{digits}f} %"
    environment.filters["step_status"] = lambda step: status_of_step(step).value
    return environment.get_template("report.html.j2")


def _render(**values: Any) -> str:
    return load_template().render(**values)

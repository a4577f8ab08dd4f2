"""What commands print: short tables that fit 80 columns."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.result.verdict import Status, reasons_of, status_of, worst
from stillroom.command_text import command_text
from stillroom.run.folder import RunFolder
from stillroom.run.status import RunState, read_run_state

__all__ = [
    "audit_table",
    "fixres_not_kept",
    "percent",
    "status_table",
    "students_table",
    "summary_table",
]

MAX_FINDINGS = 20
MODELS = ("teacher", "baseline", "student", "fixres")


def percent(value: float, digits: int = 1) -> str:
    """A fraction as a percentage, for people."""
    return f"{100 * value:.{digits}f} %"


def audit_table(folder: Path) -> None:
    """Counts per class and split, and the findings."""
    audit: dict[str, Any] = json.loads((folder / "data" / "audit.json").read_bytes())
    console = _console()
    table = _table("class", "train", "val", "test")
    for label in audit["labels"]:
        counts = [str(audit["splits"][split][label]) for split in ("train", "val", "test")]
        table.add_row(Text(label), *counts)  # brackets in a label are no markup
    console.print(table)
    findings = audit["findings"] or ["No findings."]
    for finding in findings[:MAX_FINDINGS]:
        console.print(f"  {finding}", markup=False, soft_wrap=True)
    if (more := len(findings) - MAX_FINDINGS) > 0:
        console.print(f"  {more} more findings are on the page.")
    for remark in audit.get("remarks", ()):
        console.print(f"  {remark}", markup=False, soft_wrap=True)
    if any(one["reason"] == "format" for one in audit.get("passed_over", ())):
        photos = json.loads((folder / "run.json").read_bytes())["photos"]
        console.print(f"  stillroom convert {shlex.quote(photos)}", markup=False, soft_wrap=True)
    console.print(f"{folder / 'data' / 'audit.html'}", markup=False, soft_wrap=True)


def status_table(folder: Path) -> None:
    """Every stage: done, stale and why, half done, running, not built, or not asked for."""
    from stillroom.run.pipeline import PIPELINE

    state = read_run_state(PIPELINE, RunFolder(folder))
    table = _table("stage", "state", "digest")
    for one in state.stages:
        table.add_row(one.stage.name, one.words, one.digest[:12])
    console = _console()
    console.print(table)
    if state.worker is not None:
        who = f" (process {state.worker})" if state.worker else ""
        console.print(f"another stillroom{who} works on this run now", soft_wrap=True)
    note = state.photos_changed
    if not state.photos_here:
        note = f"{state.photos} is not here: changes of the images cannot be seen"
    if note:
        console.print(f"images: {note}", markup=False, soft_wrap=True)


def students_table(rows: Sequence[Mapping[str, Any]], picked: str) -> None:
    """Students at their test sizes, the fastest first; a star on the front, an arrow at the pick.

    Args:
        rows: of the search's results.
        picked: name of the cell; empty without one.
    """
    devices = ["CPU", *(["GPU"] if "gpu_latency_median_ms" in rows[0] else [])]
    table = _table("student", "px", *(f"{device} ms" for device in devices), "val top-1", "front")
    for row in sorted(rows, key=lambda row: row["latency_ms"]):
        figures = [row["latency_ms"], *(row[k] for k in ("gpu_latency_median_ms",) if k in row)]
        mark = "*" if row["on_front"] else ""
        reduced = "" if row["precision"] == "fp32" else f", {row['precision']}"
        table.add_row(
            f"{row['arch']}{reduced}{' <- pick' if row['cell'] == picked else ''}",
            f"{row['train_size_px']} -> {row['test_size_px']}",
            *(f"{figure:.2f}" for figure in figures),
            percent(row["val_top1"]),
            mark,
        )
    _console().print(table)


def summary_table(run: RunFolder) -> None:
    """What the published stages of a run reached: those of today; others are named, not shown."""
    from stillroom.run.pipeline import PIPELINE

    state = read_run_state(PIPELINE, run)
    console = _console()
    table = _table("model", "test top-1", "95 % interval", "parameters", "GMACs")
    for name in MODELS:
        manifest = _current(run, state, name)
        if manifest:
            metrics = manifest["metrics"]
            table.add_row(
                f"{name}, not kept" if fixres_not_kept(manifest) else name,
                percent(metrics["test_top1"]),
                f"{percent(metrics['test_top1_low'])} - {percent(metrics['test_top1_high'])}",
                f"{metrics['parameters'] / 1e6:.2f} M",
                f"{metrics['flops'] / 1e9:.3f}",
            )
    if table.row_count:
        console.print(table)
    for line in [*_lines(run, state), *_stale_lines(run, state)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def fixres_not_kept(manifest: Mapping[str, Any]) -> bool:
    """Whether FixRes was tried and not kept: then its model is the student at another size."""
    return bool(manifest.get("fixres", {}).get("kept") == "student")


def _current(run: RunFolder, state: RunState, folder: str) -> dict[str, Any] | None:
    return run.manifest(folder) if state.of(folder).state == "done" else None


def _stale_lines(run: RunFolder, state: RunState) -> list[str]:
    stale = state.named("stale", "damaged")
    if not stale:
        return []
    return [f"stale     {', '.join(stale)}: not shown. Again: stillroom report {run.path}"]


def _lines(run: RunFolder, state: RunState) -> list[str]:
    lines = []
    if (fixres := _current(run, state, "fixres")) and fixres_not_kept(fixres):
        lines.append(
            "fixres    not kept, for it was not better on val: the row is the student at its size"
        )
    if artifact := _current(run, state, "artifact"):
        parity = artifact["parity"]
        lines.append(
            f"parity    {parity['status']}: {parity['flips']} of {parity['images']} predictions "
            f"flipped, SNR {parity['snr_db']:.0f} dB"
        )
    if http := _current(run, state, "http"):
        metrics = http["metrics"]
        lines.append(f"HTTP      {metrics['agree']} of {metrics['images']} predictions as offline")
    if load := _current(run, state, "loadtest"):
        metrics, loads = load["metrics"], _loads(run)
        p99_ms = metrics["open_p99_ms"]
        lines.append(
            f"load      {worst(map(status_of, loads.values()))}: "
            f"{metrics['open_rps']:.0f} requests/s at p99 "
            f"{'-' if p99_ms is None else f'{p99_ms:.1f} ms'} "
            f"({metrics['closed_rps']:.0f}/s closed loop)"
        )
        lines += [f"          {mode} loop: {text}" for mode, text in _reasons(loads)]
    if artifact and http and load:
        lines.append(f"verdict   {_verdict(run, http['metrics'])}")
    if _current(run, state, "report"):
        lines.append(f"report    {run.stage('report') / 'index.html'}")
    if artifact:
        lines.append(f"serve it  {command_text('serve', run.path)}")
    return lines


def _verdict(run: RunFolder, http: Mapping[str, Any]) -> Status:
    """That of the report: the worst of all promises."""
    from stillroom.report.verdict import badges_of, worst_of

    parity = json.loads((run.stage("artifact") / "parity.json").read_bytes())
    return worst_of(badges_of(parity, dict(http), _loads(run)))


def _loads(run: RunFolder) -> dict[str, dict[str, Any]]:
    folder = run.stage("loadtest")
    modes = ("closed", "open")
    return {mode: json.loads((folder / mode / "summary.json").read_bytes()) for mode in modes}


def _reasons(loads: Mapping[str, dict[str, Any]]) -> list[tuple[str, str]]:
    return [(mode, text) for mode, load in loads.items() for text in reasons_of(load)]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return table


def _console() -> Console:
    return Console(highlight=False)

"""What commands print: short tables that fit 80 columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stillroom.command_text import command_text
from stillroom.run_folder import RunFolder
from stillroom.run_state import read_run_state

__all__ = ["audit_table", "percent", "status_table", "students_table", "summary_table"]

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
        table.add_row(label, *counts)
    console.print(table)
    findings = audit["findings"] or ["No findings."]
    for finding in findings[:MAX_FINDINGS]:
        console.print(f"  {finding}", markup=False, soft_wrap=True)
    if (more := len(findings) - MAX_FINDINGS) > 0:
        console.print(f"  {more} more findings are on the page.")
    console.print(f"{folder / 'data' / 'audit.html'}", markup=False, soft_wrap=True)


def status_table(folder: Path) -> None:
    """Every stage: done, or why not."""
    from stillroom.pipeline import PIPELINE

    state = read_run_state(PIPELINE, RunFolder(folder))
    table = _table("stage", "state", "digest")
    for one in state.stages:
        table.add_row(one.stage.name, one.problem or "done", one.digest[:12])
    console = _console()
    console.print(table)
    note = state.photos_changed
    if not state.photos_here:
        note = f"{state.photos} is not here: changes of the photographs cannot be seen"
    if note:
        console.print(f"photographs: {note}", markup=False, soft_wrap=True)


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
    """What the published stages of a run reached."""
    console = _console()
    table = _table("model", "test top-1", "95 % interval", "parameters", "GMACs")
    for name in MODELS:
        metrics = (run.manifest(name) or {}).get("metrics")
        if metrics:
            table.add_row(
                name,
                percent(metrics["test_top1"]),
                f"{percent(metrics['test_top1_low'])} - {percent(metrics['test_top1_high'])}",
                f"{metrics['parameters'] / 1e6:.2f} M",
                f"{metrics['flops'] / 1e9:.3f}",
            )
    if table.row_count:
        console.print(table)
    for line in _lines(run):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(run: RunFolder) -> list[str]:
    lines = []
    if artifact := run.manifest("artifact"):
        parity = artifact["parity"]
        lines.append(
            f"parity    {parity['status']}: {parity['flips']} of {parity['images']} answers "
            f"flipped, SNR {parity['snr_db']:.0f} dB"
        )
    if http := run.manifest("http"):
        metrics = http["metrics"]
        lines.append(f"HTTP      {metrics['agree']} of {metrics['images']} answers as offline")
    if load := run.manifest("loadtest"):
        metrics = load["metrics"]
        lines.append(
            f"load      {metrics['open_rps']:.0f} requests/s at p99 "
            f"{metrics['open_p99_ms']:.1f} ms ({metrics['closed_rps']:.0f}/s closed loop)"
        )
    if run.manifest("report"):
        lines.append(f"report    {run.stage('report') / 'index.html'}")
    if artifact:
        lines.append(f"serve it  {command_text('serve', run.path)}")
    return lines


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return table


def _console() -> Console:
    return Console(highlight=False)

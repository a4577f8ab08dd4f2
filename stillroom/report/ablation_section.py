"""What the report shows of an ablation, where the run has one."""

from __future__ import annotations

from typing import Any

from stillroom.page.charts.whiskers import draw_whisker, scale_from
from stillroom.page.format import percent
from stillroom.report.models import read_json
from stillroom.run.folder import RunFolder
from stillroom.run.status import stale_note

__all__ = ["ablation_section"]

FOLDER, RESULTS = "ablation", "results.json"


def ablation_section(run: RunFolder) -> dict[str, Any] | None:
    """The table of arms and what each addition brings; None without an ablation.

    `outdated` names the stages that changed since it was made, `stale` says that its options did,
    and `overrides` what it alone was told.
    """
    manifest = run.manifest(FOLDER)
    if manifest is None:
        return None
    results = read_json(run.stage(FOLDER) / RESULTS)
    outdated = [
        name
        for name, digest in manifest["parents"].items()
        if _digest(run, {"audit": "data"}.get(name, name)) != digest
    ]
    start = scale_from(row["test_top1_low"] for row in results["rows"])
    return {
        "results": results,
        "start": start,
        "rows": [(row, _whisker(row, start)) for row in results["rows"]],
        "outdated": outdated,
        "stale": not outdated and bool(stale_note(run.path, FOLDER)),
        "overrides": run.overrides(FOLDER),
    }


def _whisker(row: dict[str, Any], start: float) -> Any:
    value, low, high = (row[f"test_top1{end}"] for end in ("", "_low", "_high"))
    label = f"{percent(value)}, {percent(low)} to {percent(high)}"
    return draw_whisker(value, low, high, start=start, label=label)


def _digest(run: RunFolder, folder: str) -> str | None:
    return (run.manifest(folder) or {}).get("digest")

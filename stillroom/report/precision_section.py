"""What the report shows of files of reduced precision: verdict, accuracy, speed, size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from export.options import REDUCED
from stillroom.report.facts import read_flips
from stillroom.report.models import read_json
from stillroom.report.thumbnails import Thumbnails
from stillroom.run_folder import RunFolder
from train.photos import Photo

__all__ = ["FOLDERS", "precision_section"]

FOLDERS = {"fp32": "artifact", **{name: f"artifact-{name}" for name in REDUCED}}
SHOWN = 24  # changed answers of each precision


def precision_section(
    run: RunFolder, photos: Sequence[Photo], thumbnails: Thumbnails
) -> dict[str, Any] | None:
    """A row for each published precision, fp32 first; None where fp32 is the only one."""
    rows = [row for name in FOLDERS if (row := _row(run, name))]
    if len(rows) < 2:
        return None
    by_path = {photo.path: photo for photo in photos}
    return {
        "rows": rows,
        "changed": [
            {
                "precision": row["name"],
                "flips": [
                    {**flip, "uri": thumbnails.of(by_path[flip["path"]])}
                    for flip in row["flips"][:SHOWN]
                    if flip["path"] in by_path
                ],
                "hidden": max(0, len(row["flips"]) - SHOWN),
            }
            for row in rows[1:]
        ],
    }


def _row(run: RunFolder, name: str) -> dict[str, Any] | None:
    """One published precision; `outdated` where it was made of another fp32 file."""
    folder, manifest = run.stage(FOLDERS[name]), run.manifest(FOLDERS[name])
    if manifest is None:
        return None
    fp32 = (run.manifest(FOLDERS["fp32"]) or {}).get("digest")
    flips = [flip for flip in read_flips(folder / "flips.csv") if flip["asked_for"] == "test"]
    return {
        "name": name,
        "parity": read_json(folder / "parity.json"),
        "flips": sorted(flips, key=lambda flip: (flip["change"] != "lost", -float(flip["margin"]))),
        "bytes": manifest["metrics"]["model_bytes"],
        "benefit": manifest.get("benefit"),
        "kept_float": manifest.get("kept_float", []),
        "outdated": name != "fp32" and manifest["parents"]["export"] != fp32,
    }

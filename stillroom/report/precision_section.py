"""What the report shows of files of reduced precision: verdict, accuracy, speed, size."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.mobile import check_ort, download_size, write_ort
from export.options import REDUCED
from serve.contract.artifact import MODEL, Artifact, open_artifact
from serve.contract.errors import GateError
from stillroom.page.thumbnails import Thumbnails
from stillroom.report.facts import read_flips
from stillroom.report.models import read_json
from stillroom.run.artifacts import golden_pixels
from stillroom.run.folder import RunFolder
from stillroom.run.status import stale_note
from train.data.images import LabelledImage

__all__ = ["FOLDERS", "precision_section"]

FOLDERS = {"fp32": "artifact", **{name: f"artifact-{name}" for name in REDUCED}}
SHOWN = 24  # changed predictions of each precision


def precision_section(
    run: RunFolder, photos: Sequence[LabelledImage], thumbnails: Thumbnails
) -> dict[str, Any]:
    """A row for each published precision, fp32 first, and test images whose prediction changed."""
    rows = [row for name in FOLDERS if (row := _row(run, name))]
    by_path = {photo.path: photo for photo in photos}
    return {
        "rows": rows,
        "unmade": [name for name in REDUCED if name not in {row["name"] for row in rows}],
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
    """One published precision; `outdated`: of another fp32 file; `stale`: of other options."""
    folder, manifest = run.stage(FOLDERS[name]), run.manifest(FOLDERS[name])
    if manifest is None:
        return None
    fp32 = (run.manifest(FOLDERS["fp32"]) or {}).get("digest")
    flips = [flip for flip in read_flips(folder / "flips.csv") if flip["asked_for"] == "test"]
    return {
        "name": name,
        "parity": read_json(folder / "parity.json"),
        "flips": sorted(flips, key=lambda flip: (flip["change"] != "lost", -float(flip["margin"]))),
        "download": download_size(folder / MODEL).to_dict(),
        "mobile": None if manifest.get("target") else _mobile(open_artifact(folder)),
        "benefit": _benefit(folder),
        "kept_float": manifest.get("kept_float", []),
        "outdated": name != "fp32" and manifest["parents"]["export"] != fp32,
        "stale": name != "fp32" and bool(stale_note(run.path, FOLDERS[name])),
    }


def _benefit(folder: Path) -> dict[str, Any] | None:
    path = folder / "benefit.json"
    return read_json(path)["benefit"] if path.exists() else None


def _mobile(artifact: Artifact) -> dict[str, Any]:
    """Size of ONNX Runtime's format for devices, and how far its golden predictions are off."""
    with tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
        source, made = artifact.root / MODEL, Path(folder) / "model.ort"
        write_ort(source, made)
        try:
            worst = check_ort(source, made, golden_pixels(artifact))
        except GateError as error:
            return {"failed": error.message}
        return {**download_size(made).to_dict(), "max_abs_diff": worst}

"""A run of toy images that sweeps are tried on."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

from stillroom.sweep.subject import open_study_data
from tests.train.toy import write_photos

OPTIONS = (
    "teacher.arch=test_efficientnet",
    "teacher.weights=none",
    "teacher.train_size_px=32",
    "teacher.test_size_px=0",
    "teacher.epochs=2",
    "teacher.head_epochs=0",
    "teacher.warmup_epochs=0.5",
    "teacher.batch_size=12",
    "teacher.ema_decay=0.9",
    "teacher.lr=3e-3",
    "teacher.workers=0",
)
TIMES = ("epoch_s", "wall_s", "latency_ms", "latency_q1_ms", "latency_q3_ms")


def make_run(folder: Path) -> Path:
    """Audited images: 45 to train on, 15 of val, 12 of test."""
    from stillroom.run.execution import Request, run_stages
    from stillroom.run.pipeline import PIPELINE

    photos = write_photos(folder / "photos", count=24)
    overrides = ("data.val_fraction=0.2", "data.test_fraction=0.17")
    run_stages(PIPELINE, Request(folder / "run", photos, None, overrides, "audit"))
    return folder / "run"


def copy_run(run: Path, folder: Path) -> Path:
    """A run of the same images that a test may change."""
    return Path(shutil.copytree(run, folder / "run"))


def dataset_of(run: Path) -> Any:
    """What a sweep of the run holds."""
    return open_study_data(run, None, OPTIONS).dataset


def rows_of(run: Path, name: str) -> list[dict[str, str]]:
    """results.csv without what may differ between equal sweeps."""
    with (run / "sweep" / name / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def fake_latency(folders: dict[str, Path], *, opset: int, out: Path) -> dict[str, float]:
    """In place of ten seconds of export: the later the slower."""
    import json

    assert opset > 0
    files = [p if p.suffix else p / "checkpoint.safetensors" for p in folders.values()]
    assert all(file.is_file() for file in files)
    times = {
        name: {"median_ms": 1.0 + i, "q1_ms": 0.9 + i, "q3_ms": 1.2 + i, "n": 9}
        for i, name in enumerate(folders)
    }
    (out / "latency.json").write_text(json.dumps(times))
    return {}

"""What the benchmarks share: the images that they open, and the machine that they name."""

from __future__ import annotations

import platform
from pathlib import Path

from train.data.audit.dataset_audit import audit_images
from train.data.dataset import Dataset
from train.options import DataOptions

__all__ = ["audited", "cpu_name"]


def audited(photos: Path, out: Path, cache_mib: int) -> Dataset:
    """Images with the default split and seed 0; the index in `out`/data is made once.

    Args:
        photos: a folder for each class.
        out: the benchmark's folder.
        cache_mib: of decoded images.
    """
    data = out / "data"
    if not (data / "index.csv").exists():
        data.mkdir(parents=True, exist_ok=True)
        audit_images(photos, DataOptions(), seed=0, out=data)
    return Dataset.open(photos, data / "index.csv", cache_mib)


def cpu_name() -> str:
    """The processor's name, where Linux says it; else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

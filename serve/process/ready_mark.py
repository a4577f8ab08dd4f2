"""ReadyMark: how the process above the workers knows which of them had become ready.

A file beside a worker's metrics, in the folder that BentoML gives all its workers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["METRICS_FOLDER", "leave_ready_mark", "was_ready"]

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def leave_ready_mark(environ: Mapping[str, str] = os.environ) -> None:
    """Note that this process is ready; without such a folder nothing happens."""
    if folder := environ.get(METRICS_FOLDER):
        with suppress(OSError):
            _mark(folder, os.getpid()).touch()


def was_ready(folder: str, pid: int) -> bool:
    """Whether that worker had left its mark."""
    return bool(folder) and _mark(folder, pid).exists()


def _mark(folder: str, pid: int) -> Path:
    return Path(folder) / f"ready-{pid}"

"""Files that survive a crash: what is written reaches the disk before its name does."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["fsync_folder", "fsync_path"]


def fsync_folder(folder: Path) -> None:
    """Force every file below `folder`, and the folders themselves, to disk."""
    for path in (*folder.rglob("*"), folder):
        fsync_path(path)


def fsync_path(path: Path) -> None:
    """Force one file, or the names in one folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

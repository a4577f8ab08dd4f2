"""Files that survive a crash: what is written reaches the disk before its name does."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["fsync_folder", "fsync_path", "write_atomic"]


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


def write_atomic(path: Path, data: bytes, *, shared: bool = False) -> None:
    """Write a file so that it is the old one or the new one, whole, whatever happens meanwhile.

    Args:
        path: of the file; its folder is there.
        data: what it holds.
        shared: several processes may write it at once; else the caller holds a lock.

    Raises:
        OSError: as the file system says; nothing is left beside the old file.
    """
    own = f".{os.getpid()}" if shared else ""
    partial = path.with_name(f".{path.name}{own}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
    fsync_path(path.parent)

"""Where stillroom keeps what can be made again, and whether a file is still as it was."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import PIL

__all__ = ["READER", "FileKey", "cache_folder"]

READER = f"2 Pillow {PIL.__version__}"  # of the facts; another one reads all files again


def cache_folder() -> Path:
    """$STILLROOM_CACHE, or stillroom in $XDG_CACHE_HOME, or in ~/.cache."""
    if own := os.environ.get("STILLROOM_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "stillroom"


@dataclass(frozen=True)
class FileKey:
    """A file as it was when it was looked at.

    Args:
        path: absolute; bytes that are no UTF-8 are escaped.
        stamp: size, times, inode and reader; equal stamps mean equal facts.
        changed_s: when it last changed, in seconds of `time.time`.
    """

    path: str
    stamp: str
    changed_s: float

    @classmethod
    def of(cls, path: Path) -> FileKey:
        """Look at a file.

        Raises:
            OSError: it is gone.
        """
        stat = path.stat()
        facts = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, READER)
        changed_s = max(stat.st_mtime_ns, stat.st_ctime_ns) / 1e9
        name = os.fsencode(path.absolute()).decode("utf-8", "backslashreplace")
        return cls(name, "/".join(map(str, facts)), changed_s)

"""Shortage: what the machine lacks, in one line with what to do, wherever it is noticed.

A full disk, no folder for temporary files, no more descriptors or memory come up in any library and
under many names; a traceback of it helps nobody.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["shortage_of"]

FULL_BYTES = 2**20
OURS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError)
NEXT = {
    errno.ENOSPC: "The disk is full: free some space{where}, then run the same command again.",
    errno.EDQUOT: "Your disk quota is used up: free some space, then run the same command again.",
    errno.EMFILE: "Too many open files for one process: raise the limit, as ulimit -n 4096 does.",
    errno.ENFILE: "Too many open files on this machine: close some, or raise fs.file-max.",
    errno.EROFS: "{file}The file system is read-only: name another folder, or mount it writable.",
    errno.ENOMEM: "The memory is used up: close other programs, or ask for less at once.",
}
NO_TEMPORARY = (
    "No temporary folder can be written (tried TMPDIR, /tmp, /var/tmp): name one with "
    "TMPDIR=FOLDER, or mount one, as docker run --tmpfs /tmp does."
)


def shortage_of(error: BaseException) -> str | None:
    """The line for an error that a lack of the machine caused; None for any other.

    Libraries hide the reason (safetensors, SQLite and NumPy give no error number for a full disk),
    so of another error the free space is asked for, too.
    """
    for one in _chain(error):
        if isinstance(one, FileNotFoundError) and "temporary directory" in str(one.strerror):
            return NO_TEMPORARY
        if isinstance(one, MemoryError):
            return NEXT[errno.ENOMEM]
        if isinstance(one, OSError) and one.errno in NEXT:
            full = _full_folders()
            where = f" ({', '.join(map(str, full))})" if full else ""
            file = f"{one.filename}: " if one.filename else ""
            return NEXT[one.errno].format(where=where, file=file)
    if not isinstance(error, OURS) and (full := _full_folders()):
        where = f" ({', '.join(map(str, full))})"
        return f"{type(error).__name__}. " + NEXT[errno.ENOSPC].format(where=where)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _full_folders() -> list[Path]:
    """Of the folders that commands write to, those with next to no space left."""
    import tempfile

    folders = [Path.cwd()]
    if cache := os.environ.get("STILLROOM_CACHE"):
        folders.append(Path(cache))
    with suppress(OSError):
        folders.append(Path(tempfile.gettempdir()))
    full = []
    for folder in dict.fromkeys(folders):
        with suppress(OSError):
            if shutil.disk_usage(folder).free < FULL_BYTES:
                full.append(folder)
    return full

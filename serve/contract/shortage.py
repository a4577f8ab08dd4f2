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
FREE = "free some space, then run the same command again."
NEXT = {
    errno.EDQUOT: f"Your disk quota is used up: {FREE}",
    errno.EMFILE: "Too many open files for one process: raise the limit, as ulimit -n 4096 does.",
    errno.ENFILE: "Too many open files on this machine: close some, or raise fs.file-max.",
    errno.EROFS: "The file system is read-only: name another folder, or mount it writable.",
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
            return _full_disk() or NO_TEMPORARY
        if isinstance(one, MemoryError):
            return NEXT[errno.ENOMEM]
        if isinstance(one, OSError) and one.errno == errno.ENOSPC:
            return _full_disk() or "The disk is full: " + FREE
        if isinstance(one, OSError) and one.errno in NEXT:
            file = f"{os.fspath(one.filename)}: " if one.filename else ""
            return file + NEXT[one.errno]
    return None if isinstance(error, OURS) else _full_disk()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _full_disk() -> str | None:
    """The line that names the full ones of the folders that commands write to, if any is."""
    names = [os.environ.get(name) for name in ("STILLROOM_CACHE", "TMPDIR")]
    full = []
    for name in dict.fromkeys((str(Path.cwd()), *filter(None, names), "/tmp", "/var/tmp")):
        with suppress(OSError):
            found = shutil.disk_usage(name)
            if found.total and found.free < FULL_BYTES:
                full.append(name)
    return f"The disk is full at {', '.join(full)}: {FREE}" if full else None

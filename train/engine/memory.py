"""The most memory that a process has held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["peak_rss_mib"]


def peak_rss_mib(pid: int | None = None) -> float:
    """Largest resident memory of a process so far, in MiB; 0 where the system does not tell.

    `ru_maxrss` survives exec on Linux: a child starts with the peak of the process that started
    it. The peak in /proc is of the program that runs now.

    Args:
        pid: of the process; None for this one.
    """
    try:
        lines = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        lines = ""
    for line in lines.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    if pid is not None:
        return 0.0
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

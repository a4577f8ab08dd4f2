"""CPU time and memory of a process and all that it started, from Linux's /proc."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["ProcessTree", "busy_s"]

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


class ProcessTree:
    """A process with its children, theirs, and so on, as they are now.

    Args:
        root: process id.
    """

    def __init__(self, root: int) -> None:
        self._root = root

    def members(self) -> list[int]:
        """Process ids, the root first; those that live."""
        found, queue = [], [self._root]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for task in (PROC / str(pid) / "task").glob("*/children"):
                queue += map(int, _text(task).split())
        return [pid for pid in found if (PROC / str(pid)).exists()]

    def cpu_s(self) -> float:
        """CPU time so far, s, with that of children that ended and were waited for."""
        return sum(map(_cpu_s, self.members()))

    def pss_mib(self) -> float:
        """Proportional set size: memory, with shared pages divided among those that share them."""
        total_kib = 0
        for pid in self.members():
            found = re.search(r"^Pss:\s+(\d+) kB", _text(PROC / str(pid) / "smaps_rollup"), re.M)
            total_kib += int(found[1]) if found else 0
        return total_kib / 1024


def busy_s() -> float:
    """CPU time that all processes of the machine took since its start, s."""
    fields = list(map(int, _text(PROC / "stat").splitlines()[0].split()[1:]))
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / TICKS


def _cpu_s(pid: int) -> float:
    # The second field is a name in brackets, which may hold blanks.
    fields = _text(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS if fields else 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # it ended meanwhile
        return ""

"""On what the load was generated: enough to tell whether two reports may be compared."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["CpuMeter", "fingerprint", "load_average"]


class CpuMeter:
    """CPU time of this process between `start` and `stop`, as a share of one core.

    The generator runs on one core; near 1.0 it measures itself instead of the service.
    """

    def __init__(self) -> None:
        self._wall_s = self._cpu_s = self._used_wall_s = self._used_cpu_s = 0.0

    def start(self) -> None:
        """Begin to count."""
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Keep what was used since `start`."""
        self._used_wall_s = time.perf_counter() - self._wall_s
        self._used_cpu_s = time.process_time() - self._cpu_s

    @property
    def share(self) -> float:
        """CPU seconds per second; 0 before anything was counted."""
        return self._used_cpu_s / self._used_wall_s if self._used_wall_s > 0 else 0.0


def load_average() -> list[float]:
    """Processes that want to run, mean of 1, 5 and 15 minutes; other work on the machine shows."""
    return [round(figure, 2) for figure in os.getloadavg()]


def fingerprint() -> dict[str, Any]:
    """Versions, processor and system; no names of hosts, users or paths."""
    return {
        "cpu_count": len(os.sched_getaffinity(0)),
        "cpu_model": _cpu_model(),
        "locust": metadata.version("locust"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())

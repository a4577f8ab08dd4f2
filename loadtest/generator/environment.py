"""On what the load was generated: enough to tell whether two reports may be compared."""

from __future__ import annotations

import os
import platform
import resource
import time
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["CpuMeter", "fingerprint", "load_average", "peak_memory_mib"]

CORES = len(os.sched_getaffinity(0))  # at the start, before this process is kept on some of them
MIN_SAMPLE_S = 0.5
"""Shorter stretches say little: the last one of a run is often a fragment."""


class CpuMeter:
    """CPU time of this process between `start` and `stop`, as a share of one core.

    The generator runs on one core; near 1.0 it measures itself instead of the service. A busy
    second between idle ones hides in the mean, so `sample` also keeps shorter stretches.

    Attributes:
        series: of each stretch its end (`time.perf_counter()`), share, and resident MiB.
    """

    def __init__(self) -> None:
        self._began = self._sampled = self._ended = (0.0, 0.0)
        self.series: list[tuple[float, float, float]] = []

    def start(self) -> None:
        """Begin to count."""
        self._began = self._sampled = self._ended = _clocks()
        self.series = []

    def sample(self) -> None:
        """Keep the share since the last sample; call it about each second."""
        now = _clocks()
        if now[0] - self._sampled[0] >= MIN_SAMPLE_S:
            self.series.append((now[0], _share(self._sampled, now), memory_mib()))
            self._sampled = now

    def stop(self) -> None:
        """Keep what was used since `start`."""
        self.sample()
        self._ended = _clocks()

    @property
    def share(self) -> float:
        """CPU seconds per second; 0 before anything was counted."""
        return _share(self._began, self._ended)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _share(began: tuple[float, float], ended: tuple[float, float]) -> float:
    wall_s = ended[0] - began[0]
    return (ended[1] - began[1]) / wall_s if wall_s > 0 else 0.0


def memory_mib() -> float:
    """The memory that this process holds now, in MiB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_memory_mib() -> float:
    """The most memory that this program has held, in MiB.

    Not `ru_maxrss`, which survives exec: it would be the peak of whoever started the load test.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        lines = ""
    peaks = [line.split()[1] for line in lines.splitlines() if line.startswith("VmHWM:")]
    if peaks:
        return int(peaks[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load_average() -> list[float]:
    """Processes that want to run, mean of 1, 5 and 15 minutes; other work on the machine shows."""
    return [round(figure, 2) for figure in os.getloadavg()]


def fingerprint() -> dict[str, Any]:
    """Versions, processor and system; no names of hosts, users or paths."""
    return {
        "cpu_count": CORES,
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

"""Throughput and memory: how fast a training goes, what it waits for, and the most it held."""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from train.engine.world import current_world

__all__ = ["TIMINGS", "ThroughputMeter", "peak_memory_mib", "peak_rss_mib"]

TIMINGS = "timings.jsonl"  # beside the metrics, which are the same in every run; these are not
T = TypeVar("T")


class ThroughputMeter:
    """Images a second, the share of the time that the loop waits for data, and when to save.

    Args:
        log: gets one JSON line an epoch.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._saved_s = time.perf_counter()
        self._ended: dict[str, float] = {}
        self.start_epoch()

    def watched(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches, and count how long each was waited for."""
        iterator = iter(batches)
        while True:
            asked_s = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited_s += time.perf_counter() - asked_s
            yield batch

    def count(self, images: int) -> None:
        """So many images more were trained on."""
        self._images += images

    def __str__(self) -> str:
        wall_s = time.perf_counter() - self._begin_s
        return f"{self._images / wall_s:.0f} img/s  data wait {self._waited_s / wall_s:.0%}"

    @property
    def line(self) -> str:
        """The epoch's pace, for people."""
        return f"{self._ended['images_per_s']:.0f} img/s"

    def end_steps(self) -> None:
        """The epoch's steps are done; validation is not counted."""
        wall_s = time.perf_counter() - self._begin_s
        self._ended = {
            "images": self._images,
            "wall_s": round(wall_s, 3),
            "images_per_s": round(self._images / wall_s, 1),
            "data_wait": round(self._waited_s / wall_s, 4),
        }

    def end_epoch(self, epoch: int, phase: str) -> None:
        """Write the epoch's line."""
        entry = {"phase": phase, "epoch": epoch, **self._ended, **peak_memory_mib()}
        if not current_world().is_writer:
            return
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def save_due(self, minutes: float) -> bool:
        """Whether the last save is so long ago."""
        return time.perf_counter() - self._saved_s >= 60 * minutes

    def saved(self) -> None:
        """The state was saved just now."""
        self._saved_s = time.perf_counter()

    def start_epoch(self) -> None:
        """Forget the epoch before, and what came after its steps."""
        self._begin_s, self._waited_s, self._images = time.perf_counter(), 0.0, 0


def peak_memory_mib() -> dict[str, float]:
    """Largest memory so far: of this process, of its largest living child, and on the GPU."""
    import torch  # what a stage took is asked without it, too

    children = [peak_rss_mib(child.pid) for child in multiprocessing.active_children()]
    peaks = {
        "peak_rss_mib": peak_rss_mib(),
        "peak_worker_rss_mib": max(children, default=0.0),
    }
    if torch.cuda.is_available():
        peaks["peak_gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return {name: round(value, 1) for name, value in peaks.items()}


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

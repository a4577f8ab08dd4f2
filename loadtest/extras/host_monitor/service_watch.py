"""CPU and memory of the service while it is under load, where its process id is known.

For a service on the machine of the load test; one elsewhere has its own monitoring.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.errors import UsageError
from loadtest.generator.affinity import pin_tree, process_tree

__all__ = ["ServiceWatch"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class ServiceWatch:
    """Samples of a process tree.

    Attributes:
        pid: its root.
        cores: to which it was pinned; empty if it was not.
        series: (seconds, CPU seconds so far, resident bytes) at each sample; the seconds are the
            caller's.
    """

    pid: int
    cores: tuple[int, ...] = ()
    series: list[tuple[float, float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not process_tree(self.pid):
            raise UsageError(f"--service-pid {self.pid}: no such process", "see: pgrep -f serve")

    def pin(self, cores: tuple[int, ...]) -> None:
        """Let it run on these cores only."""
        self.cores = cores if pin_tree(self.pid, cores) else ()

    def restart(self) -> None:
        """Forget the samples so far."""
        self.series.clear()

    def sample(self, now_s: float) -> None:
        """Note where it stands; nothing once it is gone."""
        usages = [usage for pid in process_tree(self.pid) if (usage := _usage(pid))]
        if usages:
            cpu_s, resident = sum(cpu for cpu, _ in usages), sum(size for _, size in usages)
            self.series.append((now_s, cpu_s, resident))

    def describe(self) -> dict[str, Any]:
        """Ready for JSON.

        Returns:
            `pinned_cores`; `time_s`, `cpu_share` (CPU seconds per second, so 2 is two cores) and
            `rss_mib` of each stretch; None for `cpu_mean_share` and `rss_peak_mib` without any.
            Memory that its processes share is counted in each of them.
        """
        stretches = [
            (b[0], (b[1] - a[1]) / (b[0] - a[0]), b[2] / 2**20)
            for a, b in zip(self.series, self.series[1:], strict=False)
            if b[0] > a[0]
        ]
        shares = [share for _, share, _ in stretches]
        return {
            "pinned_cores": list(self.cores),
            "time_s": [round(time_s, 3) for time_s, _, _ in stretches],
            "cpu_share": [round(max(share, 0.0), 3) for share in shares],
            "rss_mib": [round(size, 1) for _, _, size in stretches],
            "cpu_mean_share": round(sum(shares) / len(shares), 3) if shares else None,
            "rss_peak_mib": round(max(size for _, _, size in stretches), 1) if stretches else None,
        }


def _usage(pid: int) -> tuple[float, int] | None:
    with suppress(OSError, ValueError, IndexError):
        # The name, in brackets, may hold spaces: what counts comes after it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        pages = int(fields[21])
        return ticks / _TICKS_PER_S, pages * _PAGE_BYTES
    return None

"""How busy the GPUs of this machine are under load, as `nvidia-smi` tells it each second.

It runs in a process of its own and writes into a file, so that asking it never holds up a sending.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["GpuWatch", "watched_gpus"]

COMMAND = ("--query-gpu=index,utilization.gpu,memory.used", "--format=csv,noheader,nounits")
EVERY_MS = 500
END_S = 5.0


class GpuWatch:
    """Samples out of the lines that are in a file so far.

    Attributes:
        series: by number of the GPU: (seconds of the caller, share of the time that it computed,
            MiB in use) at each sample.
    """

    def __init__(self, lines: Path) -> None:
        self.series: dict[int, list[tuple[float, float, float]]] = {}
        self._lines, self._read_bytes = lines, 0

    def sample(self, now_s: float) -> None:
        """Note what was said of each GPU last; nothing where nothing new was."""
        newest = dict(filter(None, map(_reading, self._new_lines())))
        for index, (share, used_mib) in newest.items():
            self.series.setdefault(index, []).append((now_s, share, used_mib))

    def describe(self) -> list[dict[str, Any]]:
        """Of each GPU, ready for JSON: `index`, `time_s`, `busy_share`, `memory_mib`."""
        return [
            {
                "index": index,
                "time_s": [round(time_s, 3) for time_s, _, _ in own],
                "busy_share": [share for _, share, _ in own],
                "memory_mib": [used_mib for _, _, used_mib in own],
            }
            for index, own in sorted(self.series.items())
        ]

    def _new_lines(self) -> list[str]:
        with self._lines.open("rb") as file:
            file.seek(self._read_bytes)
            whole = file.read().rpartition(b"\n")[0]  # the last line may be half written
        self._read_bytes += len(whole) + bool(whole)
        return whole.decode(errors="replace").splitlines()


@contextmanager
def watched_gpus() -> Iterator[GpuWatch]:
    """Watch them while the block lasts; without `nvidia-smi` the watch stays empty."""
    program = shutil.which("nvidia-smi")
    with tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
        lines = Path(folder) / "gpus.csv"
        lines.touch()
        watch = GpuWatch(lines)
        if program is None:
            yield watch
            return
        with lines.open("ab") as file:
            command = [program, *COMMAND, "-lms", str(EVERY_MS)]
            # A session of its own: a Ctrl-C must not end it before the load.
            try:
                child = subprocess.Popen(
                    command, stdout=file, stderr=subprocess.DEVNULL, start_new_session=True
                )
            except OSError:  # it is there, but not for this machine
                child = None
        try:
            yield watch
        finally:
            if child is not None:
                child.kill()
                with suppress(subprocess.TimeoutExpired):  # a driver may hold it
                    child.wait(END_S)


def _reading(line: str) -> tuple[int, tuple[float, float]] | None:
    """Number, share and MiB; None for another line, such as that of a GPU in parts ([N/A])."""
    with suppress(ValueError):
        index, busy_percent, used_mib = line.split(",")
        return int(index), (float(busy_percent) / 100, float(used_mib))
    return None

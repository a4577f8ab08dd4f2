"""The in-process bound: bytes -> top-5 on one thread, one image at a time, without a server.

    python -m benchmarks.serving.bound ARTIFACT PHOTOS SECONDS

prints {"cpu_ms": ..., "p50_ms": ..., "images": ...} as JSON. It runs in a process of its own, so
that nothing else is in its memory or waits for its lock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from statistics import median

from benchmarks.serving.answering import Answering

__all__ = ["Bound", "measure_bound", "photos_in"]

WARM_UP = 20


@dataclass(frozen=True)
class Bound:
    """What an answer costs without a server.

    Args:
        cpu_ms: CPU time an image, mean over the time.
        p50_ms: median time of one image.
        images: that were answered.
    """

    cpu_ms: float
    p50_ms: float
    images: int


def measure_bound(artifact: Path, photos: Path, seconds: float) -> Bound:
    """Run this module in a new process."""
    command = [sys.executable, "-m", __spec__.name, str(artifact), str(photos), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Bound(**json.loads(done.stdout))


def photos_in(folder: Path) -> list[Path]:
    """The images that `benchmarks.serving.load.write_bodies` chose, in its order."""
    return sorted(folder.glob("*.jpg"))


def _bound(answering: Answering, photos: list[bytes], seconds: float) -> Bound:
    for data in photos[:WARM_UP]:
        answering.answer_json(data)
    times = []
    cpu, start = time.process_time(), time.perf_counter()
    for data in cycle(photos):
        before = time.perf_counter()
        answering.answer_json(data)
        now = time.perf_counter()
        times.append(now - before)
        if now - start > seconds:
            break
    cpu = time.process_time() - cpu
    return Bound(cpu / len(times) * 1e3, median(times) * 1e3, len(times))


def main() -> None:
    """Command line."""
    artifact, photos, seconds = sys.argv[1:]
    bodies = [path.read_bytes() for path in photos_in(Path(photos))]
    print(json.dumps(asdict(_bound(Answering(Path(artifact)), bodies, float(seconds)))))


if __name__ == "__main__":
    main()

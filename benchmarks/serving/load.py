"""Requests by wrk: real images, one after another, over connections that stay open.

wrk takes 0.1 ms of CPU for a request where a generator in Python takes as much as a small model;
it is a closed loop, so that its latencies hide queueing: of those only the ones of a single
connection are used.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.contract.errors import ImageError, MeasurementError, UsageError
from serve.contract.preprocess import read_size

__all__ = ["MULTIPART", "RAW", "Load", "find_wrk", "run_load", "write_bodies"]

RAW, MULTIPART = "raw", "multipart"
BOUNDARY = "stillroom-image"
SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Load:
    """What came of one run of wrk.

    Args:
        requests: that were answered.
        seconds: that it took.
        failed: answers other than 2xx and 3xx, and connections that broke.
        p50_ms: median time of an answer.
        p99_ms: 99th percentile.
    """

    requests: int
    seconds: float
    failed: int
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def find_wrk() -> str:
    """The path of wrk.

    Raises:
        UsageError: it is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise UsageError("wrk is not on the PATH.", "Install it: apt-get install wrk")
    return found


def write_bodies(photos: Path, folder: Path, count: int) -> None:
    """Choose images, and write them as bodies of requests with a list for each kind of body.

    Args:
        photos: a folder of JPEG files, at any depth; every n-th is taken.
        folder: gets NNN.jpg, NNN.multipart, raw.txt and multipart.txt.
        count: images.

    Raises:
        UsageError: the folder holds fewer.
    """
    found = [path for path in sorted(photos.rglob("*.jp*g")) if _is_accepted(path)]
    if len(found) < count:
        raise UsageError(
            f"{photos} holds {len(found)} JPEG images, {count} are needed.",
            "Name another folder, or ask for fewer with --bodies.",
        )
    lists: dict[str, list[str]] = {RAW: [], MULTIPART: []}
    for number, path in enumerate(found[:: len(found) // count][:count]):
        data = path.read_bytes()
        raw = folder / f"{number:03d}.jpg"
        raw.write_bytes(data)
        form = raw.with_suffix(".multipart")
        form.write_bytes(_multipart(data))
        lists[RAW].append(f"image/jpeg\t{raw}")
        lists[MULTIPART].append(f"multipart/form-data; boundary={BOUNDARY}\t{form}")
    for kind, lines in lists.items():
        (folder / f"{kind}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_load(url: str, bodies: Path, *, connections: int, seconds: float) -> Load:
    """Send requests for a time.

    Args:
        url: with its path.
        bodies: a list that `write_bodies` wrote.
        connections: requests under way at once.
        seconds: at least 1; wrk takes whole ones.

    Raises:
        MeasurementError: a request failed, or none was answered.
    """
    options: Sequence[str] = (
        *("--threads", "1", "--connections", str(connections)),
        *("--duration", f"{max(1, round(seconds))}s", "--timeout", "10s"),
        *("--script", str(SCRIPT), url, "--", str(bodies)),
    )
    done = subprocess.run([find_wrk(), *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise MeasurementError(f"wrk failed: {said[-1] if said else 'it did not say why'}")
    load = Load(**json.loads(done.stdout.splitlines()[-1]))
    if load.failed or not load.requests:
        raise MeasurementError(f"{url}: {load.failed} requests failed, {load.requests} answered.")
    return load


def _is_accepted(path: Path) -> bool:
    try:
        read_size(path.read_bytes())
    except ImageError:
        return False
    return True


def _multipart(data: bytes) -> bytes:
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()

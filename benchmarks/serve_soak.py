"""Soak: what the service holds on to, minute after minute, at a rate that it can keep.

    python -m benchmarks.serve_soak runs/mine --photos PHOTOS --minutes 10 --rate 50

Images are sent at a fixed rate whatever the answers do. Once a second the worker's resident
memory, open files and threads are read from /proc. The slope of memory is Theil and Sen's, over the
requests answered, with its 95 % interval; the first fifth of the time is warm-up and not counted.
It fails (exit code 1) when the upper end of the interval is above 1 MB for 10 000 requests, when
files or threads grew, or when a request was not answered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import metadata
from itertools import cycle
from pathlib import Path

import httpx
import psutil
from scipy import stats

from serve.process.launch import running_server

LIMIT_MB = 1.0  # resident memory for 10 000 requests
WARM_UP = 0.2  # share of the time
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Sample:
    """The worker process at one moment.

    Args:
        requests: answered so far.
        rss_mb: resident memory, 10**6 bytes.
        files: open file descriptors, but for connections: these follow the clients.
        threads: of the process.
    """

    requests: int
    rss_mb: float
    files: int
    threads: int


@dataclass
class Soak:
    """One run.

    Args:
        url: of the service.
        photos: bodies, sent in turn.
        rate: requests per second.
    """

    url: str
    photos: list[bytes]
    rate: float
    statuses: Counter[int] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)

    async def run(self, worker: psutil.Process, seconds: float) -> None:
        """Send and sample for `seconds`."""
        pool = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=2)
        async with httpx.AsyncClient(base_url=self.url, timeout=30, limits=pool) as client:
            sampling = asyncio.create_task(self._sample(worker))
            begun, asked = time.monotonic(), set[asyncio.Task[None]]()
            for turn, photo in enumerate(cycle(self.photos)):
                due = begun + turn / self.rate
                if due > begun + seconds:
                    break
                await asyncio.sleep(due - time.monotonic())
                task = asyncio.create_task(self._ask(client, photo))
                asked.add(task)
                task.add_done_callback(asked.discard)
            await asyncio.gather(*asked)
            sampling.cancel()

    async def _ask(self, client: httpx.AsyncClient, photo: bytes) -> None:
        kind = {"content-type": "application/octet-stream"}
        try:
            answer = await client.post("/v1/classify", content=photo, headers=kind)
            self.statuses[answer.status_code] += 1
        except httpx.TransportError:
            self.statuses[0] += 1

    async def _sample(self, worker: psutil.Process) -> None:
        while True:
            files = worker.num_fds() - len(worker.net_connections("tcp"))
            rss_mb = worker.memory_info().rss / 1e6
            answered = sum(self.statuses.values())
            self.samples.append(Sample(answered, rss_mb, files, worker.num_threads()))
            await asyncio.sleep(1)


@dataclass(frozen=True)
class Verdict:
    """What the samples after the warm-up say.

    Args:
        first: first sample after the warm-up.
        last: last sample.
        slope_mb: for 10 000 requests.
        interval_mb: 95 % interval of the slope.
        failed: requests that were not answered with 200.
    """

    first: Sample
    last: Sample
    slope_mb: float
    interval_mb: tuple[float, float]
    failed: int

    @property
    def passed(self) -> bool:
        """Whether nothing grows."""
        constant = self.last.files <= self.first.files and self.last.threads <= self.first.threads
        return constant and not self.failed and self.interval_mb[1] <= LIMIT_MB


def verdict_of(soak: Soak) -> Verdict:
    """Judge a finished run; needs at least five samples."""
    counted = soak.samples[int(len(soak.samples) * WARM_UP) :]
    slope, _, low, high = stats.theilslopes(
        [one.rss_mb for one in counted], [one.requests / 1e4 for one in counted]
    )
    failed = sum(count for status, count in soak.statuses.items() if status != 200)
    return Verdict(counted[0], counted[-1], slope, (low, high), failed)


def report(soak: Soak, verdict: Verdict, seconds: float) -> str:
    """The table, and the conditions under which it was made."""
    first, last = verdict.first, verdict.last
    low, high = verdict.interval_mb
    names = ("bentoml", "onnxruntime", "pillow", "uvicorn")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    rows = [
        ("resident memory, MB", f"{first.rss_mb:.1f}", f"{last.rss_mb:.1f}"),
        ("open files", f"{first.files}", f"{last.files}"),
        ("threads", f"{first.threads}", f"{last.threads}"),
    ]
    lines = ["| worker | after warm-up | at the end |", "|---|---|---|"]
    lines += [f"| {name} | {before} | {after} |" for name, before, after in rows]
    return "\n".join(
        [
            *lines,
            "",
            f"Memory grows by {verdict.slope_mb:.2f} MB for 10 000 requests (95 % interval "
            f"{low:.2f} to {high:.2f}; the limit is {LIMIT_MB:g}).",
            f"{sum(soak.statuses.values())} requests in {seconds:.0f} s at {soak.rate:g}/s, "
            f"{verdict.failed} not answered with 200 (by status: {dict(soak.statuses)}).",
            f"{platform.machine()}, {os.cpu_count()} CPU cores, load average {load}, Python "
            f"{platform.python_version()}, {versions}; {len(soak.photos)} images of "
            f"{sum(map(len, soak.photos)) / len(soak.photos) / 1e3:.0f} kB on average.",
            "PASSED" if verdict.passed else "FAILED",
        ]
    )


def worker_process() -> psutil.Process:
    """The one process of ours that answers requests."""
    [found] = [
        process
        for process in psutil.Process().children(recursive=True)
        if "_bentoml_impl.worker.service" in process.cmdline()
    ]
    return found


def photos_in(folder: Path, most: int) -> list[bytes]:
    """Bodies of up to `most` images, in an order that does not follow the folders."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"{folder} holds no images ({', '.join(SUFFIXES)}).")
    step = max(1, len(paths) // most)
    return [path.read_bytes() for path in paths[::step][:most]]


def main() -> int:
    """Soak, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path, help="run folder or artifact folder")
    parser.add_argument("--photos", type=Path, required=True, help="folder of images")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second")
    options = parser.parse_args()
    seconds = options.minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with running_server(options.artifact, log_path=log) as url:
            soak = Soak(url, photos_in(options.photos, most=500), options.rate)
            asyncio.run(soak.run(worker_process(), seconds))
    verdict = verdict_of(soak)
    sys.stdout.write(report(soak, verdict, seconds) + "\n")
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())

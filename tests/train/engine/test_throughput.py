from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train.engine.throughput import ThroughputMeter, peak_memory_mib, peak_rss_mib

ROOT = Path(__file__).resolve().parents[3]


def test_waiting_for_data_is_told_apart_from_working(tmp_path: Path) -> None:
    pace = ThroughputMeter(tmp_path / "timings.jsonl")

    def slow() -> object:
        for _ in range(4):
            time.sleep(0.03)
            yield None

    for _ in pace.watched(slow()):
        time.sleep(0.01)
        pace.count(8)
    assert " img/s  data wait " in str(pace)
    pace.end_steps()
    time.sleep(0.2)  # validation
    pace.end_epoch(1, "all")
    (entry,) = map(json.loads, (tmp_path / "timings.jsonl").read_text().splitlines())
    assert entry["images"] == 32
    assert entry["wall_s"] >= 0.16
    assert 0.5 < entry["data_wait"] < 0.9
    assert entry["images_per_s"] == round(32 / entry["wall_s"], 1) or entry["wall_s"] < 1
    assert entry["peak_rss_mib"] > 50


def test_each_epoch_is_timed_for_itself(tmp_path: Path) -> None:
    pace = ThroughputMeter(tmp_path / "timings.jsonl")
    for epoch in (1, 2):
        pace.count(10 * epoch)
        pace.end_steps()
        pace.end_epoch(epoch, "all")
        pace.start_epoch()
    lines = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["images"]) for line in lines] == [(1, 10), (2, 20)]


def test_a_save_is_due_after_its_minutes(tmp_path: Path) -> None:
    pace = ThroughputMeter(tmp_path / "timings.jsonl")
    assert pace.save_due(0)
    assert not pace.save_due(1)
    time.sleep(0.02)
    assert pace.save_due(0.01 / 60)
    pace.saved()
    assert not pace.save_due(1)


def test_peak_memory_is_in_mib() -> None:
    assert 50 < peak_memory_mib()["peak_rss_mib"] < 100_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("how", ["run", "posix_spawn"])
def test_peak_memory_is_not_that_of_who_started_the_process(how: str) -> None:
    """`ru_maxrss` survives exec: a training started by a large process had that one's peak."""
    child = "from train.engine.throughput import peak_rss_mib as p; print(p())"
    run = f"subprocess.run([sys.executable, '-c', {child!r}])"
    spawn = f"os.waitpid(os.posix_spawn(sys.executable, ['p', '-c', {child!r}], os.environ), 0)"
    held = "import os, subprocess, sys; x = bytearray(b'x') * (300 << 20); "
    script = held + {"run": run, "posix_spawn": spawn}[how]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 2 < float(done.stdout) < 150


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_of_loader_workers_is_that_of_the_living_ones() -> None:
    assert peak_rss_mib(os.getpid()) == pytest.approx(peak_rss_mib(), abs=50)
    assert peak_rss_mib(2**22 + 1) == 0  # no such process
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    subprocess.run([sys.executable, "-c", "x = bytearray(b'x') * (300 << 20)"], check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >= max(before, 300 * 1024)
    assert peak_memory_mib()["peak_worker_rss_mib"] == 0  # a program that ended was no worker

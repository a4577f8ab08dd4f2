"""GPUs, by a program that stands in for nvidia-smi."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from loadtest.extras.host_monitor.gpu_watch import GpuWatch, watched_gpus

STAND_IN = """#!/bin/sh
echo "$@" > {folder}/asked
echo $$ > {folder}/pid
echo "0, 97, 1234"
echo "1, [N/A], 17"
exec sleep 60
"""


def test_the_newest_line_of_each_gpu_is_kept(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("0, 10, 100\n1, 20, 200\n0, 30, 300\n1, 4")
    watch = GpuWatch(lines)
    watch.sample(1.0)
    watch.sample(2.0)  # nothing new
    with lines.open("a") as file:
        file.write("0, 400\n1, [N/A], 5\nsomething else\n")
    watch.sample(3.0)
    assert watch.series == {
        0: [(1.0, 0.3, 300)],
        1: [(1.0, 0.2, 200), (3.0, 0.4, 400)],
    }
    assert watch.describe()[1] == {
        "index": 1,
        "time_s": [1.0, 3.0],
        "busy_share": [0.2, 0.4],
        "memory_mib": [200, 400],
    }


def test_the_program_is_asked_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(STAND_IN.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with watched_gpus() as watch:
        deadline_s = time.monotonic() + 20
        while not watch.series and time.monotonic() < deadline_s:
            watch.sample(1.0)
            time.sleep(0.05)
    assert watch.series == {0: [(1.0, 0.97, 1234)]}
    assert "--format=csv,noheader,nounits -lms" in (tmp_path / "asked").read_text()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_without_gpus_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with watched_gpus() as watch:
        watch.sample(1.0)
    assert watch.describe() == []

"""kill -9 in every stage: the same command then finishes, and nothing half-made counts as done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.contract.manifest import damaged_files, read_manifest
from tests.stillroom.conftest import TINY

pytestmark = [pytest.mark.ci, pytest.mark.timeout(900)]
ROUNDS = 10 if os.environ.get("STILLROOM_SOAK") else 1
STAGES = (
    *("audit", "teacher", "student", "fixres", "baseline"),
    *("export", "latency", "http", "loadtest", "report"),
)


def start(photos: Path, run: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "stillroom", "run", str(photos), "--run", str(run), *TINY]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def wait_for(log: Path, text: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until `text` stands in the log; False when the process ends without it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if text in log.read_text():
            return True
        if process.poll() is not None:
            return text in log.read_text()
        time.sleep(0.005)
    raise AssertionError(f"{text!r} did not appear: {log.read_text()}")


def published(run: Path) -> dict[str, str]:
    """Digest of every stage folder that has a name, after checking every byte of it."""
    digests = {}
    for folder in sorted(run.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and folder.name != "tensorboard":
            manifest = read_manifest(folder)
            assert damaged_files(folder, manifest) == []
            digests[folder.name] = manifest["digest"]
    return digests


def processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append((path.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_run_survives_kill_9_in_every_stage(tiny_photos, tmp_path, seed):
    moments = random.Random(seed)
    run, log = tmp_path / "run", tmp_path / "log"
    before: dict[str, str] = {}
    for stage in STAGES:
        process = start(tiny_photos, run, log)
        assert wait_for(log, f"{stage}: not built yet; building", process), log.read_text()
        time.sleep(moments.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = published(run)
        assert after.items() >= before.items(), f"killed in {stage}: a published stage changed"
        before = after
    process = start(tiny_photos, run, log)
    assert process.wait(timeout=300) == 0, log.read_text()
    chain = json.loads((run / "run.json").read_text())["chain"]
    assert [link["stage"] for link in chain] == list(STAGES)
    assert {link["folder"]: link["digest"] for link in chain} == published(run)
    assert not list(run.glob(".*.work"))
    time.sleep(2)
    assert processes_with(str(run)) == []


def test_a_training_killed_in_between_gives_the_weights_of_one_that_was_not(tiny_photos, tmp_path):
    digests = []
    for name, kill in (("whole", False), ("killed", True)):
        run, log = tmp_path / name, tmp_path / f"{name}.log"
        if kill:
            process = start(tiny_photos, run, log)
            assert wait_for(log, "fine-tuning, epoch 1/2", process)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not (run / "teacher").exists()
        command = [sys.executable, "-m", "stillroom", "run", str(tiny_photos), "--run", str(run)]
        subprocess.run([*command, "--until", "teacher", *TINY], check=True, capture_output=True)
        digests.append(read_manifest(run / "teacher")["digest"])
    assert digests[0] == digests[1]

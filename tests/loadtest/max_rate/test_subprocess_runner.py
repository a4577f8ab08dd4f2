from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest.max_rate.subprocess_runner import run_child, stopped_alike
from tests.loadtest.stub_server import ROOT, Behaviour, served, write_corpus

RATE = 60


def test_codes_are_those_of_the_child() -> None:
    assert run_child([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert run_child([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


def test_a_signal_is_passed_on_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop_us = f"import os, time; os.kill({os.getpid()}, 15); time.sleep(30)"
    assert run_child([sys.executable, "-c", stop_us]) == 75
    with pytest.raises(KeyboardInterrupt), stopped_alike():
        os.kill(os.getpid(), signal.SIGTERM)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def stop(command: Sequence[str], number: signal.Signals, behaviour: Behaviour) -> int:
    """Signal a command alone, as `kill` does, once its warm-up of 2 s is over."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline_s = time.monotonic() + 30
        while behaviour.served < 2.5 * RATE and time.monotonic() < deadline_s:
            time.sleep(0.02)
        process.send_signal(number)
        return process.wait(20)
    finally:
        process.kill()
        process.wait()


@pytest.mark.ci
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_search_writes_what_ran(tmp_path: Path, number: signal.Signals) -> None:
    behaviour, out = Behaviour(delay_s=0.005), tmp_path / "out"
    flags = ["--corpus", str(write_corpus(tmp_path)), "--out", str(out), "--slo", "p99=900ms"]
    with served(behaviour) as url:
        command = ["loadtest.promise", url, *flags, "--first", str(RATE)]
        assert stop(command, number, behaviour) == 75
    assert json.loads((out / "promise.json").read_text())["note"] == "stopped before the end"
    assert "stopped before the end" in (out / "report.html").read_text()
    probe = json.loads((out / "probes" / "01" / "summary.json").read_text())
    assert probe["stopped_by"] == number.name
    assert probe["counts"]["ok"] > 5
    assert (out / "probes" / "01" / "report.html").exists()


@pytest.mark.ci
def test_a_stopped_command_of_ours_writes_what_ran(tmp_path: Path) -> None:
    """The load has a process of its own, which must outlive the signal to this one."""
    behaviour, out = Behaviour(delay_s=0.005), tmp_path / "out"
    write_corpus(tmp_path)
    flags = [
        "--photos",
        str(tmp_path),
        "--out",
        str(out),
        "--rate",
        str(RATE),
        "--duration-s",
        "60",
    ]
    with served(behaviour) as url:
        command = ["stillroom", "loadtest", url, *flags]
        assert stop(command, signal.SIGTERM, behaviour) == 75
    assert json.loads((out / "summary.json").read_text())["stopped_by"] == "SIGTERM"
    assert '<span class="badge">inconclusive</span>' in (out / "report.html").read_text()

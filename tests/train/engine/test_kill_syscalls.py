"""A save that dies at each of its system calls on files, whichever library makes it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.train.dying import SURVIVED
from tests.train.toy import same_tensors, state_of, toy_model
from train.engine.resume_state import ResumeState, load_state, save_state, saved_steps

CALLS = "%file,%desc"  # strace's classes: what takes a path or a descriptor
ATTACH_S = 10.0


def _save(folder: Path, step: int) -> None:
    model = toy_model(step)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    progress = ResumeState(step, {"loss": float(step)})
    save_state(folder, progress, modules={"model": model}, optimizer=optimizer)


def _traced(work: Callable[[], object], log: Path, *options: str) -> int:
    """Run `work` in a forked process under strace from its first call on; its exit code."""
    waits, go = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.read(waits, 1)
            work()
            code = SURVIVED
        finally:
            os._exit(code)
    command = ["strace", "-f", "-qq", "-e", f"trace={CALLS}", *options, "-o", str(log)]
    with subprocess.Popen([*command, "-p", str(child)], stderr=subprocess.DEVNULL) as tracer:
        deadline_s = time.monotonic() + ATTACH_S
        while not _is_traced(child) and tracer.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.002)
        attached = _is_traced(child)
        os.write(go, b"x")
        os.close(go)
        os.close(waits)
        _, status = os.waitpid(child, 0)
    if not attached:
        pytest.skip("strace may not attach to a process here")
    return os.waitstatus_to_exitcode(status)


def _is_traced(process: int) -> bool:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("TracerPid")).split()[1] != "0"


def _prepared(folder: Path) -> Path:
    folder.mkdir()
    for step in (1, 2, 3):
        _save(folder, step)
    return folder


@pytest.mark.ci
@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a_save_killed_at_each_system_call_leaves_a_state_that_loads(tmp_path: Path) -> None:
    log = tmp_path / "log"
    counted = _prepared(tmp_path / "counted")
    assert _traced(lambda: _save(counted, 4), log) == SURVIVED
    names = [line.split(maxsplit=1)[1].split("(")[0] for line in log.read_text().splitlines()]
    calls = Counter(name for name in names if name.isidentifier())
    assert {"openat", "write", "fsync", "rename"} <= set(calls)
    template = _prepared(tmp_path / "template")
    loaded, killed = Counter[int](), 0
    for name, count in calls.items():
        for number in range(1, count + 1):
            folder = tmp_path / f"{name}-{number}"
            shutil.copytree(template, folder)
            death = f"inject={name}:signal=SIGKILL:when={number}"
            ended = _traced(lambda f=folder: _save(f, 4), log, "-e", death)  # type: ignore[misc]
            if name in ("read", "close") and ended == SURVIVED:
                continue  # it may need one more or less
            assert ended == -signal.SIGKILL, death
            model = toy_model(99)
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
            progress = load_state(folder, modules={"model": model}, optimizer=optimizer)
            assert progress.step in (3, 4), death
            assert same_tensors(state_of(model), state_of(toy_model(progress.step))), death
            loaded[progress.step] += 1
            killed += 1
            _save(folder, 5)  # and the next save tidies up
            assert saved_steps(folder)[-1] == 5
            shutil.rmtree(folder)
    print(f"killed at {killed} system calls: {dict(calls)}; loaded {dict(loaded)}")
    assert min(loaded[3], loaded[4]) > 0

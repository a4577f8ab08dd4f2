"""The rules; processes that die for real are in test_live_life.py."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.process.supervisor import CrashLoop, exposure


def test_deaths_far_apart_are_no_crash_loop() -> None:
    loop = CrashLoop(most=2, window_s=10)
    assert not any(loop.count(1, now_s=at) for at in (0, 6, 12, 18, 24))


def test_one_more_than_tolerated_is_one() -> None:
    loop = CrashLoop(most=2, window_s=10)
    assert [loop.count(1, now_s=at) for at in (0, 1, 2)] == [False, False, True]


def test_workers_that_die_together_all_count() -> None:
    assert CrashLoop(most=2, window_s=10).count(3, now_s=0)


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(1, 5), st.integers(1, 50))
def test_it_counts_what_a_window_holds(times: list[float], most: int, window_s: int) -> None:
    loop = CrashLoop(most, window_s)
    for index, now_s in enumerate(times := sorted(times)):
        inside = [at for at in times[: index + 1] if at > now_s - window_s]
        assert loop.count(1, now_s) == (len(inside) > most)


CODE = """
import inspect
from pathlib import Path
from _bentoml_impl.server import serving
from bentoml._internal.utils import circus
from circus.sockets import CircusSocket
from circus.watcher import Watcher
from serve.settings import Settings
from serve.process.stderr_log import log_to_stderr
from serve.process.supervisor import supervise_workers

log_to_stderr()
supervise_workers(Settings(artifact=Path("x"), max_deaths=7), refusal=100)
watcher = Watcher("service", "true", respawn=False)
listeners = [CircusSocket(name="a", host="0.0.0.0"), CircusSocket(name="b", host="127.0.0.1")]
arbiter = circus.create_standalone_arbiter([watcher], sockets=listeners)
assert arbiter.check_delay == 0.25 and watcher.respawn
assert arbiter.manage_watchers.__func__.__module__ == "serve.process.supervisor"
arbiter._exclusive_running_command = "arbiter_stop"
assert arbiter.manage_watchers() is None
assert arbiter._limits == (7, 60)

# In `serve_http`, the hook that calls us comes before the parent is built.
source = inspect.getsource(serving.serve_http)
assert "from bentoml._internal.utils.circus import create_standalone_arbiter" in source
assert source.index("server_on_deployment(svc)") < source.index("= create_standalone_arbiter(")
"""


def test_bentoml_builds_its_parent_from_the_class_that_we_replace() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: 0.0.0.0 can be reached from other machines")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7"])
def test_who_serves_strangers_without_a_token_is_warned(address: str) -> None:
    warning = exposure(address, guarded=False)
    assert warning.startswith(f"{address} can be reached from other machines")
    assert "Set STILLROOM_TOKEN" in warning
    assert "--host 127.0.0.1" in warning
    assert exposure(address, guarded=True) == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_a_service_of_this_machine_alone_is_none_of_that(address: str) -> None:
    assert exposure(address, guarded=False) == ""


FORGOTTEN = """
import sys
from pathlib import Path
from types import SimpleNamespace
from bentoml._internal.utils import circus
from circus.arbiter import Arbiter
from circus.watcher import Watcher
from serve.settings import Settings
from serve.process.stderr_log import log_to_stderr
from serve.process.supervisor import supervise_workers

log_to_stderr()
supervise_workers(Settings(artifact=Path("x"), max_deaths=1), refusal=100)
watcher = Watcher("service", "true", respawn=False)
arbiter = circus.create_standalone_arbiter([watcher])
arbiter.loop = SimpleNamespace(add_callback=lambda stop: print("ends"))
last = None
for pid in range(1001, 1001 + int(sys.argv[1])):  # each is forgotten outside the look
    if last:
        del watcher.processes[last]
    watcher.processes[pid] = SimpleNamespace(pid=pid)
    arbiter.reap_processes()
    last = pid
if sys.argv[2] == "refuses":
    arbiter._note_exit(exit_code=102, process_pid=last)
    del watcher.processes[last]
    arbiter.reap_processes()
print(arbiter._exit_code)
"""


def _forgotten(workers: int, last: str) -> str:
    command = [sys.executable, "-c", FORGOTTEN, str(workers), last]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("workers", "says"), [(1, "0"), (2, "0"), (3, "ends\n1")])
def test_a_worker_that_circus_forgot_counts_as_dead(workers: int, says: str) -> None:
    assert _forgotten(workers, "lives") == says


def test_a_refusal_after_a_forgotten_death_is_not_one_of_the_start() -> None:
    """The first worker to end was killed: the service that ran tries again."""
    assert _forgotten(2, "refuses") == "0"

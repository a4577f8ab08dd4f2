"""Nothing calls home: no device id, event store or client id, and no look-up, by any command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.machines import ROOT, files_below, hosts_in, needs_strace, program, traced

SHOW = "import {}, os; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"


@pytest.mark.parametrize("name", ["serve", "train", "compress", "export", "stillroom", "loadtest"])
@pytest.mark.parametrize("told", ["", "0", "false"])
def test_reports_are_off_whatever_the_user_has_set(name: str, told: str) -> None:
    if name == "loadtest":
        show = "import loadtest, os; print('1', os.environ['DO_NOT_TRACK'])"
    else:
        show = SHOW.format(name)
    env = {**os.environ, "ORT_DISABLE_TELEMETRY": told, "DO_NOT_TRACK": told}
    done = subprocess.run(
        [sys.executable, "-c", show], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1"]


def alone(home: Path) -> dict[str, str]:
    """The variables of a user with an empty home who has heard of none of ours."""
    home.mkdir()
    keep = {name: os.environ[name] for name in ("PATH", "STILLROOM_CACHE") if name in os.environ}
    return {**keep, "HOME": str(home), "TMPDIR": str(home.parent)}


@pytest.mark.parametrize(
    ("command", "traced_too"),
    [
        ("predict", False),
        ("verify", False),
        *(pytest.param(one, True, marks=pytest.mark.ci) for one in ("predict", "verify", "parity")),
    ],
)
def test_commands_leave_nothing_in_an_empty_home(
    tiny_artifact: Path, tmp_path: Path, command: str, traced_too: bool
) -> None:
    if traced_too:
        needs_strace()
    files = [str(tiny_artifact / "golden" / "photo.jpg")] if command == "predict" else []
    line = [sys.executable, "-m", "stillroom", command, str(tiny_artifact), *files]
    if traced_too:
        line = traced(line, tmp_path / "log")
    env = alone(tmp_path / "home")
    done = subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path / "home") == []
    if traced_too:
        assert hosts_in(tmp_path / "log") == set()


@pytest.mark.ci
@pytest.mark.parametrize("how", ["stillroom", "bentoml"])
def test_a_service_calls_nobody_but_its_clients(
    tiny_artifact: Path, tmp_path: Path, how: str
) -> None:
    """BentoML's command is not told by a variable here: the line of the documents is not needed."""
    needs_strace()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    env = {**alone(tmp_path / "home"), "STILLROOM_ARTIFACT": str(tiny_artifact)}
    if how == "stillroom":
        line = [sys.executable, "-m", "stillroom", "serve", str(tiny_artifact), "--port", port]
    else:
        target = ["serve", "serve.service:Classifier", "--host", "127.0.0.1", "--port", port]
        line = [program("bentoml"), *target]
    with subprocess.Popen(traced(line, tmp_path / "log"), env=env, cwd=ROOT) as process:
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not ready(port):
                time.sleep(0.2)
            assert ready(port)
            time.sleep(5)  # the first report of ONNX Runtime came after some seconds
        finally:
            process.terminate()
            process.wait(60)
    kept = [name for name in files_below(tmp_path / "home") if "prometheus" not in name]
    assert kept == []
    assert hosts_in(tmp_path / "log") == set()


def ready(port: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_bentoml_loads_our_settings_before_its_own_start() -> None:
    found = [one.value for one in entry_points(group="bentoml.commands") if one.name == "stillroom"]
    if not found:
        pytest.skip("installed by an older pyproject.toml: uv sync")
    code = (
        "import os, sys; sys.argv = ['bentoml', 'list']\n"
        "from importlib import import_module\n"
        f"import_module({found[0].partition(':')[0]!r})\n"
        "assert os.environ['BENTOML_DO_NOT_TRACK'] == 'True'\n"
        "assert 'serve' not in sys.modules  # or a Bento's own would not be served\n"
        "from bentoml_cli.cli import create_bentoml_cli\n"
        "assert 'stillroom' in create_bentoml_cli().commands\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "BENTOML_DO_NOT_TRACK"}
    subprocess.run([sys.executable, "-c", code], env=env, cwd="/", check=True)

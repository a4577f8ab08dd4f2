"""A server installation: no torch, and it still serves an artifact and answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[1]
UV = shutil.which("uv")

pytestmark = [
    pytest.mark.ci,
    pytest.mark.timeout(600),
    pytest.mark.skipif(UV is None, reason="uv is not on the PATH"),
]


@pytest.fixture(scope="module")
def server_environment(tmp_path_factory) -> Path:
    """An environment with the base dependencies and the extra `cpu`, from a copy of the sources."""
    folder = tmp_path_factory.mktemp("server")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".venv", ".git", "runs", "tests", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, source, ignore=ignored)
    environment = folder / "venv"
    subprocess.run(
        [str(UV), "sync", "--quiet", "--no-default-groups", "--extra", "cpu", "--no-editable"],
        cwd=source,
        env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(environment), "VIRTUAL_ENV": ""},
        check=True,
        timeout=300,
    )
    shutil.rmtree(source)  # what runs is what was installed
    return environment / "bin"


def run(environment: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(environment / str(arguments[0])), *map(str, arguments[1:])]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)


def test_torch_is_not_installed(server_environment):
    for name in ("torch", "timm", "onnx", "locust", "scipy"):
        assert run(server_environment, "python", "-c", f"import {name}").returncode != 0


def test_commands_that_need_no_training_work(server_environment, tiny_artifact):
    photo = next((tiny_artifact / "golden").glob("*.jpg"))
    for command in (
        ("stillroom", "--help"),
        ("stillroom", "predict", tiny_artifact, photo),
        ("stillroom", "verify", tiny_artifact),
        ("stillroom", "parity", tiny_artifact),
    ):
        done = run(server_environment, *command)
        assert done.returncode == 0, done.stderr


def test_a_command_that_needs_training_says_what_to_install(server_environment, tmp_path):
    done = run(server_environment, "stillroom", "demo", "--run", tmp_path / "runs" / "demo")
    assert done.returncode == 2, done.stderr
    assert ".[cpu,train,loadtest]" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_serves_and_answers(server_environment, tiny_artifact):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [server_environment / "stillroom", "serve", tiny_artifact, "--port", str(port)]
    server = subprocess.Popen([*map(str, command)], cwd="/")
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        golden = json.loads((tiny_artifact / "golden" / "golden.json").read_text())
        photo = next(entry for entry in golden if entry["file"].endswith(".jpg"))
        data = (tiny_artifact / "golden" / photo["file"]).read_bytes()
        answer = httpx.post(
            f"{url}/v1/classify", content=data, headers={"content-type": "image/jpeg"}
        )
        assert answer.status_code == 200
        assert answer.json()["model"]["backend"] == "onnxruntime-cpu"
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0

"""`stillroom build`: the Bento is lean, names nothing of this machine, and answers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.contract.artifact import open_artifact
from serve.model.golden_check import load_golden

ROOT = Path(__file__).parents[4]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """BentoML's store."""
    home = tmp_path / "bentoml"
    monkeypatch.setenv("BENTOML_HOME", str(home))
    return home / "bentos"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_damaged_artifact_is_not_packed(stillroom, artifact_copy: Path, store: Path) -> None:
    (artifact_copy / "flips.csv").write_bytes(b"")
    done = stillroom("build", artifact_copy)
    assert done.code == 2
    assert "is damaged" in done.err
    assert not store.exists()


def test_the_file_must_be_a_bento(stillroom, tiny_artifact: Path, tmp_path: Path, store) -> None:
    done = stillroom("build", tiny_artifact, "--out", tmp_path / "model.tar")
    assert done.code == 2
    assert "ends in .bento" in done.err


@pytest.fixture
def bento(stillroom, artifact_copy: Path, store: Path, tmp_path: Path) -> tuple[str, Path, Path]:
    """Tag, folder and exported file of a Bento of an artifact with an engine beside it."""
    (artifact_copy / "engines").mkdir()
    (artifact_copy / "engines" / "x.plan").write_bytes(b"plan")
    (artifact_copy / "runtime.json").write_text('{"machine": "secret-host"}')
    out = tmp_path / "tiny.bento"
    done = stillroom("build", artifact_copy, "--out", out)
    assert done.code == 0, done.err
    tag = done.out.partition(": ")[0]
    name, _, version = tag.partition(":")
    return tag, store / name / version, out


@pytest.fixture
def served_bento(bento: tuple[str, Path, Path], free_port: int, tmp_path: Path) -> Iterator[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "bentoml", "serve", bento[0], "--host", "127.0.0.1"]
    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen(
            [*command, "--port", str(free_port)],
            env={**env, "BENTOML_DO_NOT_TRACK": "True"},
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
        url = f"http://127.0.0.1:{free_port}"
        try:
            _wait_ready(url, child)
            yield url
        finally:
            child.terminate()
            child.wait(30)


def _wait_ready(url: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"not ready; exit code {child.poll()}")


@pytest.mark.ci
@pytest.mark.e2e
def test_a_bento_serves_the_artifact_and_holds_nothing_else(
    bento: tuple[str, Path, Path], served_bento: str, artifact_copy: Path
) -> None:
    _, folder, out = bento
    artifact = open_artifact(artifact_copy)
    packed = {str(path.relative_to(folder / "src")) for path in (folder / "src").rglob("*")}
    assert "artifact/model.onnx" in packed
    dockerfile = (folder / "env" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for line in (
        "ORT_DISABLE_TELEMETRY=1",
        "BENTOML_DO_NOT_TRACK=True",
        "BENTOML_HOME=/tmp/bentoml",
    ):
        assert (
            line in dockerfile
        )  # after BentoML's own BENTOML_HOME, which a read-only root refuses
    built_here = re.compile(r"\.plan$|(^|/)runtime|__pycache__|torch")
    assert not [name for name in packed if built_here.search(name)]
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert str(ROOT).encode() not in data, path
            assert b"secret-host" not in data, path
            assert b"pytest-of-" not in data, path
    wanted = (folder / "env" / "python" / "requirements.txt").read_text().lower()
    assert "onnxruntime==" in wanted
    assert not re.search(r"torch|timm|locust|scipy", wanted)
    assert "USER bentoml" in (folder / "env" / "docker" / "Dockerfile").read_text()
    assert out.stat().st_size > 0
    golden = load_golden(artifact)[0]
    answer = httpx.post(
        f"{served_bento}/v1/classify",
        content=golden.path.read_bytes(),
        headers={"content-type": "application/octet-stream"},
    ).json()
    assert answer["model"]["digest"] == artifact.digest
    best = max(range(len(golden.logits)), key=lambda k: golden.logits[k])
    assert answer["predictions"][0]["label"] == artifact.labels[best]


@pytest.mark.ci
def test_building_again_is_no_other_bento(stillroom, tiny_artifact: Path, store: Path) -> None:
    first = stillroom("build", tiny_artifact)
    again = stillroom("build", tiny_artifact)
    assert (first.code, again.code) == (0, 0), again.err
    assert first.out == again.out
    other = stillroom("build", tiny_artifact, "--gpu")
    assert "-gpu: " in other.out
    (requirements,) = store.glob("*/*-gpu/env/python/requirements.txt")
    assert "onnxruntime-gpu" in requirements.read_text()

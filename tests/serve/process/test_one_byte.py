"""One byte changed in any file of an artifact: never ready, and a message with the next step."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from serve.contract.artifact import open_artifact
from serve.contract.errors import StillroomError
from serve.model.golden_check import replay_golden
from serve.model.served_model import open_served_model
from serve.runners.open import open_runner
from serve.settings import Settings

PARTS = {
    "model": "model.onnx",
    "manifest": "manifest.json",
    "golden predictions": "golden/golden.json",
    "golden image": "golden/photo.jpg",
    "reference": "reference.csv",
    "verdict": "parity.json",
}
POSITIONS = 40


def change_one_byte(path: Path, rng: random.Random) -> str:
    """Another value at a random place; says which, for the assertion's message."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    old = data[at]
    data[at] ^= rng.randrange(1, 256)
    path.write_bytes(data)
    return f"{path.name}[{at}] {old} -> {data[at]}"


@pytest.mark.parametrize("part", PARTS)
def test_one_byte_is_enough_to_be_refused(artifact_copy: Path, part: str) -> None:
    rng = random.Random(f"one byte of {part}")
    path = artifact_copy / PARTS[part]
    intact = path.read_bytes()
    for _ in range(POSITIONS):
        change = change_one_byte(path, rng)
        with (
            pytest.raises(StillroomError) as caught,
            open_served_model(Settings(artifact=artifact_copy)),
        ):
            pytest.fail(f"{change}: it would have been served")
        assert caught.value.next_step, change
        path.write_bytes(intact)
    with open_served_model(Settings(artifact=artifact_copy)) as model:
        assert model.golden.images == 6  # the same artifact, intact, is served


def test_one_byte_of_the_labels(artifact_copy: Path) -> None:
    path = artifact_copy / "manifest.json"
    intact = path.read_bytes()
    at = intact.index(b'"daisy"') + 1
    for offset in range(5):
        data = bytearray(intact)
        data[at + offset] ^= 1  # another letter: the file is still JSON
        path.write_bytes(data)
        with pytest.raises(StillroomError, match=r"its digest does not match.*stillroom run"):
            open_artifact(artifact_copy)


def test_one_label_too_few_under_a_valid_manifest(artifact_copy: Path, rewrite_manifest) -> None:
    rewrite_manifest(artifact_copy, labels=["daisy", "rose", "tulip"])
    with pytest.raises(StillroomError) as caught, open_served_model(Settings(artifact_copy)):
        pytest.fail("it would have been served")
    assert caught.value.next_step


@pytest.mark.parametrize("part", ["plan", "entry"])
def test_one_byte_of_an_engine_means_a_new_engine(
    fake_machine, artifact_copy: Path, part: str
) -> None:
    """The engine is a cache: it is built again from the verified model, never loaded as it is."""
    artifact = open_artifact(artifact_copy)

    def origin() -> str:
        with open_runner(artifact, backend="tensorrt-fp32", max_batch_size=4) as runner:
            replay_golden(artifact, runner)
            return str(runner.describe()["plan_origin"])

    assert [origin(), origin()] == ["built", "cache"]
    [plan] = (artifact_copy / "engines").glob("*.plan")
    path = plan if part == "plan" else plan.with_name(f"{plan.name}.json")
    rng = random.Random(f"one byte of {part}")
    for _ in range(POSITIONS // 4):
        change = change_one_byte(path, rng)
        assert origin() == "built", change
        assert origin() == "cache", change  # and kept, whole again


@pytest.mark.e2e
@pytest.mark.ci
@pytest.mark.parametrize("part", PARTS)
def test_bentoml_serve_by_itself_never_listens(
    tiny_artifact: Path, tmp_path: Path, part: str
) -> None:
    folder = Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))
    change = change_one_byte(folder / PARTS[part], random.Random(f"served {part}"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", "serve.service:Classifier", "--quiet"]
    home = {"BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, **home, "STILLROOM_ARTIFACT": str(folder)},
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        answers = asyncio.run(_answers_until_it_ends(process, f"http://127.0.0.1:{port}/readyz"))
        assert process.stderr is not None
        text = process.stderr.read()
    assert answers == [], change
    assert process.returncode == 2, text
    assert text.startswith("error: "), text
    assert text.count("\n") == 1, text


async def _answers_until_it_ends(process: subprocess.Popen[str], url: str) -> list[int]:
    statuses = []
    async with httpx.AsyncClient(timeout=1) as client:
        while process.poll() is None:
            try:
                statuses.append((await client.get(url)).status_code)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    return statuses

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.process.hot_reload.reload import ModelSlot
from serve.process.hot_reload.watch import fingerprint_of, watch_artifact
from serve.settings import Settings

EVERY_S = 0.02


def publish(artifact: Path, run: Path) -> None:
    """As the pipeline does: a finished folder gets the name."""
    aside = Path(shutil.copytree(artifact, run / ".artifact.work"))
    if (run / "artifact").exists():
        (run / "artifact").rename(run / ".artifact.old")
    aside.rename(run / "artifact")
    shutil.rmtree(run / ".artifact.old", ignore_errors=True)


@pytest.fixture
def folder(tiny_artifact: Path, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    publish(tiny_artifact, run)
    return run


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, build_artifact) -> Path:
    return build_artifact(tmp_path_factory.mktemp("other") / "artifact", seed=5)


def watched(folder: Path, scenario: Callable[[ModelSlot], object], control: str = "") -> None:
    async def main() -> None:
        slot = ModelSlot(Settings(folder, control=control), lambda model: None)
        slot.open()
        watch = asyncio.create_task(watch_artifact(slot, folder, EVERY_S))
        try:
            async with asyncio.timeout(20):
                await scenario(slot)  # type: ignore[misc]
            assert not watch.done()
        finally:
            watch.cancel()
            slot.close()

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def looked(times: int = 8) -> None:
    await asyncio.sleep(times * EVERY_S)


def test_a_published_artifact_is_served(folder: Path, other: Path) -> None:
    async def scenario(slot: ModelSlot) -> None:
        first = slot.current.artifact.digest
        await looked()
        assert slot.current.artifact.digest == first
        publish(other, folder)
        await until(lambda: slot.current.artifact.digest != first)

    watched(folder, scenario)


def test_a_bad_one_is_tried_once_and_the_next_good_one_is_served(
    folder: Path, other: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = Path(shutil.copytree(other, tmp_path / "bad"))
    (bad / "model.onnx").write_bytes(b"x")

    async def scenario(slot: ModelSlot) -> None:
        first = slot.current.artifact.digest
        publish(bad, folder)
        await until(lambda: slot.tried == fingerprint_of(folder))
        await looked()
        assert slot.current.artifact.digest == first
        publish(other, folder)
        await until(lambda: slot.current.artifact.digest != first)

    watched(folder, scenario)
    assert capfd.readouterr().out.count("reload-refused") == 1


def test_a_rollback_holds_until_the_next_is_published(folder: Path, other: Path) -> None:
    async def scenario(slot: ModelSlot) -> None:
        first = slot.current.artifact.digest
        publish(other, folder)
        await until(lambda: slot.current.artifact.digest != first)
        await slot.rollback()
        await looked()
        assert slot.current.artifact.digest == first

    watched(folder, scenario)


def test_a_replaced_worker_does_not_undo_a_rollback(
    folder: Path, other: Path, tmp_path: Path
) -> None:
    digests = []

    async def roll_back(slot: ModelSlot) -> None:
        digests.append(slot.current.artifact.digest)
        publish(other, folder)
        await until(lambda: slot.status()["previous"] is not None and bool(slot.tried))
        await until(lambda: slot.tried == fingerprint_of(folder))
        await slot.rollback()

    async def wait(slot: ModelSlot) -> None:
        await looked()
        digests.append(slot.current.artifact.digest)

    watched(folder, roll_back, control=str(tmp_path / "control"))
    watched(folder, wait, control=str(tmp_path / "control"))
    assert digests[0] == digests[1]


def test_what_still_changes_is_not_tried(folder: Path) -> None:
    """A slow copy is another thing at every look."""

    async def main() -> None:
        slot = ModelSlot(Settings(folder), lambda model: None)
        slot.open()
        looks = iter(range(100))
        never_twice = lambda path: str(next(looks))  # noqa: E731
        watch = asyncio.create_task(watch_artifact(slot, folder, 0.001, fingerprint=never_twice))
        await asyncio.sleep(0.2)
        watch.cancel()
        assert slot.tried == ""
        slot.close()

    asyncio.run(main())


def test_a_fingerprint_follows_every_file(artifact_copy: Path) -> None:
    before = fingerprint_of(artifact_copy)
    assert fingerprint_of(artifact_copy) == before != ""
    (artifact_copy / "reference.csv").write_bytes(b"x")
    changed = fingerprint_of(artifact_copy)
    assert changed != before
    (artifact_copy / "reference.csv").unlink()
    assert fingerprint_of(artifact_copy) not in (before, changed)


def test_no_manifest_has_no_fingerprint(artifact_copy: Path, tmp_path: Path) -> None:
    assert fingerprint_of(tmp_path / "nothing") == ""
    (artifact_copy / "manifest.json").write_bytes(b'{"files": ')  # half written
    assert fingerprint_of(artifact_copy) == ""

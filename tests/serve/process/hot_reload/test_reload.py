"""ModelSlot: another model without a pause; a refused one changes nothing."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from serve.contract.artifact import open_artifact
from serve.contract.errors import ArtifactError, StillroomError, UsageError
from serve.http.app import build_app
from serve.http.guard import Guard
from serve.model.served_model import ServedModel
from serve.process.hot_reload import reload
from serve.process.hot_reload.reload import ModelSlot
from serve.settings import Settings
from serve.telemetry.metrics import Metrics

OTHER_LABELS = ("ash", "beech", "cedar", "elm", "fir")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, build_artifact) -> Path:
    """Another model, with other labels and another input size."""
    root = tmp_path_factory.mktemp("other") / "artifact"
    return build_artifact(root, seed=5, labels=OTHER_LABELS, side=24)


Scenario = Callable[[ModelSlot, list[ServedModel | None]], Any]


def run(settings: Settings, scenario: Scenario, metrics: Metrics | None = None) -> Any:
    """Run a coroutine function over an open slot and the list of models that it published."""

    async def main() -> Any:
        published: list[ServedModel | None] = []
        slot = ModelSlot(settings, published.append, metrics)
        slot.open()
        try:
            return await scenario(slot, published)
        finally:
            slot.close()

    return asyncio.run(main())


def test_a_new_artifact_answers_from_now_on(tiny_artifact: Path, other: Path) -> None:
    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        first = slot.current
        told = await slot.reload(other)
        assert told["current"]["digest"] == slot.current.artifact.digest != first.artifact.digest
        assert told["previous"] == first.identity
        assert published == [first, slot.current]

    run(Settings(tiny_artifact), scenario)


def test_the_same_artifact_again_changes_nothing(tiny_artifact: Path) -> None:
    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        assert (await slot.reload())["previous"] is None
        assert len(published) == 1

    run(Settings(tiny_artifact), scenario)


def test_a_damaged_artifact_is_refused_and_the_old_goes_on(
    tiny_artifact: Path, artifact_copy: Path, jpeg: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (artifact_copy / "model.onnx").write_bytes(b"x")

    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        with pytest.raises(ArtifactError, match=r"is damaged.*It is not served"):
            await slot.reload(artifact_copy)
        assert len(published) == 1
        assert (await slot.current.batcher.submit(jpeg)).batch_size == 1

    run(Settings(tiny_artifact), scenario)
    [line] = [json.loads(row) for row in capfd.readouterr().out.splitlines()]
    assert line["event"] == "reload-refused"
    assert "is damaged" in line["error"]


def test_wrong_answers_to_the_golden_images_are_refused(
    tiny_artifact: Path, artifact_copy: Path, make_model, rewrite_manifest
) -> None:
    (artifact_copy / "model.onnx").write_bytes(make_model(1, 32, 4))
    rewrite_manifest(artifact_copy)

    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        with pytest.raises(ArtifactError, match="predicted wrongly"):
            await slot.reload(artifact_copy)
        assert len(published) == 1

    run(Settings(tiny_artifact), scenario)


def test_a_fault_of_the_loader_is_a_refusal(
    tiny_artifact: Path, other: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        @contextmanager
        def broken(*_: object) -> Iterator[ServedModel]:
            raise MemoryError("secret")
            yield

        monkeypatch.setattr(reload, "open_served_model", broken)
        with pytest.raises(ArtifactError, match=r"could not be loaded\. The log") as caught:
            await slot.reload(other)
        assert "secret" not in str(caught.value)
        assert len(published) == 1

    run(Settings(tiny_artifact), scenario)
    assert "MemoryError: secret" in capfd.readouterr().out


def test_rollback_is_instant_and_twice_is_where_it_began(
    tiny_artifact: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        with pytest.raises(UsageError, match=r"no previous model.*stillroom admin reload RUN"):
            await slot.rollback()
        await slot.reload(other)
        monkeypatch.setattr(reload, "open_served_model", None)  # it must not be loaded again
        await slot.rollback()
        await slot.rollback()
        old, new, *after = published
        assert after == [old, new]

    run(Settings(tiny_artifact), scenario)


def test_a_third_model_frees_the_first_after_its_last_answer(
    tiny_artifact: Path, other: Path, build_artifact, tmp_path: Path, jpeg: bytes, monkeypatch
) -> None:
    third = build_artifact(tmp_path / "third", seed=9)
    monkeypatch.setattr(reload, "LONGEST_REQUEST_S", 0)

    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        first, gate = slot.current, threading.Event()
        infer = first.runner.infer
        first.runner.infer = lambda images: (gate.wait(10), infer(images))[1]  # type: ignore[method-assign]
        answer = first.batcher.submit(jpeg)
        await slot.reload(other)
        await slot.reload(third)
        [freeing] = slot._freeing
        await asyncio.sleep(0.3)
        assert not freeing.done()
        gate.set()
        assert (await answer).logits.shape == (4,)
        await asyncio.wait_for(freeing, 5)
        with pytest.raises(RuntimeError):  # its threads are gone
            first.batcher.submit(jpeg)
        assert slot.status()["previous"]["digest"] != first.artifact.digest

    run(Settings(tiny_artifact), scenario)


def test_a_replaced_worker_serves_what_was_served(
    tiny_artifact: Path, other: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))
    settings = Settings(source, control=str(tmp_path / "control"))

    async def change(slot: ModelSlot, published: list[ServedModel | None]) -> str:
        await slot.reload(other)
        return slot.current.artifact.digest

    served = run(settings, change)
    shutil.rmtree(source)

    async def start_again(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        assert slot.current.artifact.digest == served
        with pytest.raises(StillroomError, match="No such artifact folder"):
            await slot.reload()

    run(settings, start_again)


@pytest.mark.parametrize("asked_first", [True, False])
def test_a_replaced_worker_rolls_back_with_the_others(
    tiny_artifact: Path, other: Path, tmp_path: Path, asked_first: bool
) -> None:
    settings = Settings(tiny_artifact, control=str(tmp_path))

    async def main() -> None:
        old, new = (ModelSlot(settings, lambda model: None) for _ in range(2))
        old.open()
        first = old.current.artifact.digest
        await old.reload(other)
        new.open()  # in the place of one that died
        slots = [new, old] if asked_first else [old, new]
        for expected in (first, open_artifact(other).digest):
            for slot in slots:
                await slot.rollback()
            assert {slot.current.artifact.digest for slot in slots} == {expected}
        for slot in slots:
            slot.close()

    asyncio.run(main())


def test_a_worker_that_started_meanwhile_catches_up(
    tiny_artifact: Path, other: Path, tmp_path: Path
) -> None:
    settings = Settings(tiny_artifact, control=str(tmp_path))

    async def main() -> None:
        old, new = (ModelSlot(settings, lambda model: None) for _ in range(2))
        old.open()
        new.open()
        await old.reload(other)  # no command reaches the new one: its socket is not open yet
        await new.catch_up()
        assert new.current.artifact.digest == old.current.artifact.digest
        old.close()
        new.close()

    asyncio.run(main())


def test_what_cannot_be_kept_is_not_served(
    tiny_artifact: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(UsageError, match=r"can be kept \(No space.*set TMPDIR"):
            await slot.reload(other)
        assert len(published) == 1

    run(Settings(tiny_artifact, control=str(tmp_path)), scenario)
    assert not list((tmp_path / "kept").glob(".*.partial"))  # or each try would take more room


def test_only_a_few_copies_are_kept(
    tiny_artifact: Path, tmp_path: Path, build_artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "LONGEST_REQUEST_S", 0)

    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        for seed in range(1, 8):
            await slot.reload(build_artifact(tmp_path / str(seed), seed=seed))

    run(Settings(tiny_artifact, control=str(tmp_path / "control")), scenario)
    kept = [path for path in (tmp_path / "control" / "kept").iterdir() if path.is_dir()]
    assert len(kept) == 4


def test_the_gauge_names_the_model_that_answers(tiny_artifact: Path, other: Path) -> None:
    registry = CollectorRegistry()

    async def scenario(slot: ModelSlot, published: list[ServedModel | None]) -> None:
        old = slot.current.identity
        await slot.reload(other)
        value = registry.get_sample_value
        assert value("stillroom_model_info", old) == 0
        assert value("stillroom_model_info", slot.current.identity) == 1

    run(Settings(tiny_artifact), scenario, Metrics(registry))


def test_under_load_every_answer_is_of_one_model(
    tiny_artifact: Path, other: Path, make_picture, encode
) -> None:
    """Labels, probabilities and digest of an answer belong together, whenever the swap came."""
    photos = [encode(make_picture(seed), "JPEG") for seed in range(8)]
    headers = {"content-type": "image/jpeg"}

    async def ask(client: httpx.AsyncClient, photo: bytes) -> dict[str, Any]:
        answer = await client.post("/v1/classify?top_k=4", content=photo, headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def main() -> list[tuple[int, dict[str, Any]]]:
        app = build_app()
        settings = Settings(tiny_artifact, max_batch=4)
        slot = ModelSlot(settings, lambda model: setattr(app.state, "model", model))
        slot.open()
        transport = httpx.ASGITransport(app=Guard(app))
        answers: list[tuple[int, dict[str, Any]]] = []
        changing = True

        async def user(first: int) -> None:
            turn = first
            while changing:
                index = turn % len(photos)
                answers.append((index, await ask(client, photos[index])))
                turn += 1

        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            users = [asyncio.create_task(user(first)) for first in range(12)]
            await asyncio.sleep(0.1)
            await slot.reload(other)
            for _ in range(6):
                await asyncio.sleep(0.05)
                await slot.rollback()
            changing = False
            await asyncio.gather(*users)
        slot.close()
        return answers

    answers = asyncio.run(main())
    alone: dict[tuple[int, str], Any] = {}
    for index, answer in answers:
        digest = answer["model"]["digest"]
        labels = {one["label"] for one in answer["predictions"]}
        assert labels <= set(OTHER_LABELS) or not labels & set(OTHER_LABELS)
        expected = alone.setdefault((index, digest), answer["predictions"])
        assert [one["label"] for one in answer["predictions"]] == [one["label"] for one in expected]
        assert [one["probability"] for one in answer["predictions"]] == pytest.approx(
            [one["probability"] for one in expected], abs=1e-5
        )
    assert len({digest for _, digest in alone}) == 2
    assert len(alone) == 16  # every photo was answered by both

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from serve.contract.errors import TruncatedImage
from serve.http.problems import RequestError
from serve.model.batcher import Batcher


class SumRunner:
    """logits = (first pixel, batch size); blocks while `gate` is closed."""

    backend, reason, max_batch_size = "onnxruntime-cpu", "test", 4

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []

    def infer(self, images: np.ndarray) -> np.ndarray:
        self.gate.wait(10)
        values = images[:, 0, 0, 0]
        self.batches.append(values.tolist())
        logits = np.stack([values, np.full(len(images), len(images))], axis=1).astype(np.float32)
        logits[values == 99] = np.nan
        if (values == 98).any():
            raise RuntimeError("device lost")
        return logits

    def describe(self) -> dict:
        return {}

    def __enter__(self) -> SumRunner:
        return self

    def __exit__(self, *_: object) -> None: ...


def decode(data: bytes) -> np.ndarray:
    if data == b"bad":
        raise TruncatedImage("cut")
    return np.full((2, 2, 3), int(data), np.uint8)


def run(test: Callable, **options) -> None:
    runner = SumRunner()

    async def body() -> None:
        with Batcher(runner, decode, **options) as batcher:
            await asyncio.wait_for(test(batcher, runner), 20)
            assert batcher.open_requests == 0

    asyncio.run(body())


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_each_request_gets_its_own_answer() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        answers = await asyncio.gather(*(batcher.submit(b"%d" % i) for i in range(40)))
        assert [int(answer.logits[0]) for answer in answers] == list(range(40))
        assert all(answer.batch_size == answer.logits[1] for answer in answers)
        assert all(min(a.decode_ms, a.queue_ms, a.infer_ms) >= 0 for a in answers)

    run(test, decode_threads=2)


def test_what_waits_is_taken_together_up_to_the_limit() -> None:
    seen: list[tuple[int, int]] = []

    async def test(batcher: Batcher, runner: SumRunner) -> None:
        runner.gate.clear()
        answers = [batcher.submit(b"1")]
        await until(lambda: batcher._inferring and not batcher._waiting)
        answers += [batcher.submit(b"%d" % i) for i in range(2, 8)]
        await until(lambda: len(batcher._waiting) == 6)
        runner.gate.set()
        await asyncio.gather(*answers)
        assert runner.batches == [[1], [2, 3, 4, 5], [6, 7]]
        await until(lambda: len(seen) == 3)
        assert seen == [(1, 6), (4, 2), (2, 0)]

    run(test, observed=lambda logits, waiting: seen.append((len(logits), waiting)))


def test_a_fault_of_who_watches_is_no_answer() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        for value in (b"1", b"2"):
            await batcher.submit(value)
        assert runner.batches == [[1], [2]]

    def observed(logits, waiting) -> None:
        raise OSError("no space left on device")

    run(test, observed=observed)


def test_a_poison_image_fails_alone() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        blobs = [b"1", b"bad", b"2", b"bad", b"3"]
        answers = await asyncio.gather(*map(batcher.submit, blobs), return_exceptions=True)
        assert [type(answer).__name__ for answer in answers] == [
            "InferenceResult", "TruncatedImage", "InferenceResult", "TruncatedImage",
            "InferenceResult",
        ]  # fmt: skip

    run(test)


def test_a_nan_fails_alone_and_is_named() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        runner.gate.clear()
        waiting = [batcher.submit(data) for data in (b"1", b"99", b"2")]
        await until(lambda: batcher.open_requests == 3)
        runner.gate.set()
        first, nan, last = await asyncio.gather(*waiting, return_exceptions=True)
        assert (first.logits[0], last.logits[0]) == (1, 2)
        assert isinstance(nan, RequestError)
        assert (nan.problem.status, nan.problem.slug) == (500, "invalid-model-output")

    run(test)


def test_a_failed_inference_fails_its_batch_and_the_next_one_works() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        with pytest.raises(RuntimeError, match="device lost"):
            await batcher.submit(b"98")
        assert (await batcher.submit(b"5")).logits[0] == 5

    run(test)


def test_one_more_than_the_bound_is_refused_at_once() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        runner.gate.clear()
        answers = [batcher.submit(b"1") for _ in range(6)]
        with pytest.raises(RequestError) as caught:
            batcher.submit(b"1")
        assert caught.value.problem.status == 503
        assert caught.value.problem.slug == "overloaded"
        assert caught.value.problem.headers == {"retry-after": "1"}
        runner.gate.set()
        await asyncio.gather(*answers)
        await batcher.submit(b"1")

    run(test, max_queue=6)


def test_a_cancelled_request_is_not_inferred_and_frees_its_slot() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        runner.gate.clear()
        first = batcher.submit(b"1")
        await until(lambda: batcher._inferring)
        dropped, kept = batcher.submit(b"2"), batcher.submit(b"3")
        await until(lambda: len(batcher._waiting) == 2)
        dropped.cancel()
        assert batcher.open_requests == 3
        runner.gate.set()
        await asyncio.gather(first, kept)
        assert runner.batches == [[1], [3]]

    run(test)


def test_a_thousand_cancelled_requests_leave_nothing() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        for turn in range(1000):
            answer = batcher.submit(b"1")
            if turn % 3:
                await asyncio.sleep(0)
            answer.cancel()
            if batcher.open_requests > 50:
                await until(lambda: batcher.open_requests == 0)
        await until(lambda: batcher.open_requests == 0)
        assert (await batcher.submit(b"7")).logits[0] == 7

    run(test)


def test_a_slow_decode_does_not_hold_up_the_others() -> None:
    release = threading.Event()

    def slow(data: bytes) -> np.ndarray:
        if data == b"9":
            release.wait(10)
        return decode(data)

    async def body() -> None:
        with Batcher(SumRunner(), slow, decode_threads=2) as batcher:
            stuck = batcher.submit(b"9")
            quick = await asyncio.wait_for(batcher.submit(b"1"), 5)
            assert quick.logits[0] == 1
            assert not stuck.done()
            release.set()
            await stuck

    asyncio.run(body())

"""Work that would be late is refused; work that has become late is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.http.admission import Costs, overloaded, timeout_ms_of
from serve.http.problems import RequestError
from serve.model.batcher import Batcher
from tests.serve.model.test_batcher import SumRunner, decode, until

JPEG = {"content-type": "image/jpeg"}
COSTS = st.floats(0.01, 1e4)


@given(COSTS, COSTS, COSTS, st.integers(0, 50))
def test_more_work_ahead_is_never_expected_sooner(
    decode_ms: float, batch_ms: float, pace_ms: float, inside: int
) -> None:
    costs = Costs(decode_ms, batch_ms, pace_ms)
    expected = costs.expected_ms(inside)
    assert expected >= decode_ms + batch_ms
    assert costs.expected_ms(inside + 1) > expected


def test_costs_follow_what_was_measured() -> None:
    costs = Costs()
    assert costs.expected_ms(10) == 0
    for _ in range(100):
        costs.decoded(4.0)
        costs.inferred(6.0)
        costs.passed(3, 7.5, waited=True)
    assert costs.expected_ms(0) == pytest.approx(10)
    assert costs.expected_ms(10) == pytest.approx(25 + 10)
    costs.decoded(1000.0)
    assert costs.decode_ms < 110  # one huge image does not shut the door


def test_an_idle_service_is_not_taken_for_a_slow_one() -> None:
    costs = Costs()
    costs.passed(1, 60.0, waited=False)  # nothing better is known
    assert costs.pace_ms == 60
    costs = Costs()
    costs.passed(1, 5.0, waited=True)
    costs.passed(1, 60.0, waited=False)  # alone: its own decoding and inference, no pace
    assert costs.pace_ms == 5
    costs.passed(1, 2.0, waited=False)
    assert costs.pace_ms < 5


@pytest.mark.parametrize(("wait_ms", "seconds"), [(0.0, "1"), (999.0, "1"), (2001.0, "3")])
def test_retry_after_is_when_the_work_inside_will_be_done(wait_ms: float, seconds: str) -> None:
    assert overloaded(wait_ms).headers == {"retry-after": seconds}


def test_the_header_is_honoured_and_capped() -> None:
    def asked(*values: bytes) -> int:
        return timeout_ms_of([(b"x-request-timeout-ms", value) for value in values], 5000)

    assert asked() == 5000
    assert asked(b"250") == asked(b"250 \t") == 250
    assert asked(b"999999") == 5000
    for bad in (b"", b"0", b"-1", b"1.5", b"1e3", b"9" * 10, "²".encode(), b"nan"):
        with pytest.raises(RequestError) as caught:
            asked(bad)
        assert (caught.value.problem.status, caught.value.problem.slug) == (400, "invalid-timeout")
    with pytest.raises(RequestError):
        asked(b"1", b"2")


def serving(test: Callable, decoder: Callable = decode) -> None:
    runner = SumRunner()

    async def body() -> None:
        with Batcher(runner, decoder, decode_threads=1) as batcher:
            await asyncio.wait_for(test(batcher, runner), 20)
            await until(lambda: batcher.open_requests == 0)

    asyncio.run(body())


def test_what_cannot_be_in_time_is_refused_at_arrival() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        batcher._costs.decoded(30.0)
        batcher._costs.inferred(20.0)
        batcher._costs.passed(1, 25.0, waited=True)
        runner.gate.clear()
        inside = [batcher.submit(b"1") for _ in range(4)]
        with pytest.raises(RequestError) as caught:
            batcher.submit(b"1", budget_ms=100)
        assert caught.value.problem.slug == "overloaded"
        inside.append(batcher.submit(b"1", budget_ms=1000))
        runner.gate.set()
        await asyncio.gather(*inside)

    serving(test)


def test_an_idle_service_tries_whatever_it_expects() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        batcher._costs.decoded(1e6)
        for _ in range(200):
            await batcher.submit(b"1", budget_ms=500)
        assert batcher._costs.decode_ms < 1

    serving(test)


def test_work_whose_time_has_passed_is_not_inferred() -> None:
    async def test(batcher: Batcher, runner: SumRunner) -> None:
        runner.gate.clear()
        first = batcher.submit(b"1")
        await until(lambda: batcher._inferring)
        late, kept = batcher.submit(b"2", budget_ms=30), batcher.submit(b"3")
        await asyncio.sleep(0.06)
        runner.gate.set()
        with pytest.raises(RequestError) as caught:
            await late
        assert (caught.value.problem.status, caught.value.problem.slug) == (504, "timeout")
        await asyncio.gather(first, kept)
        assert runner.batches == [[1], [3]]

    serving(test)


def test_work_whose_time_has_passed_is_not_decoded() -> None:
    release = threading.Event()
    decoded: list[bytes] = []

    def slow(data: bytes) -> np.ndarray:
        decoded.append(data)
        release.wait(10)
        return decode(data)

    async def test(batcher: Batcher, runner: SumRunner) -> None:
        first = [batcher.submit(b"1"), batcher.submit(b"1")]  # a thread to decode, one to infer
        late = batcher.submit(b"2", budget_ms=20)
        await asyncio.sleep(0.05)
        release.set()
        with pytest.raises(RequestError, match="had passed"):
            await late
        await asyncio.gather(*first)
        assert decoded == [b"1", b"1"]

    serving(test, slow)


@pytest.fixture
def ask(guarded, open_client, jpeg: bytes) -> Callable[..., httpx.Response]:
    def request(**headers: str) -> httpx.Response:
        async def one() -> httpx.Response:
            async with open_client(guarded) as client:
                path = "/v1/classify"
                return await client.post(path, content=jpeg, headers=JPEG | headers)

        return asyncio.run(one())

    return request


def test_over_http_a_time_that_is_no_time_is_400_and_one_that_has_passed_504(
    ask, is_problem, served
) -> None:
    assert ask(**{"x-request-timeout-ms": "20000"}).status_code == 200
    is_problem(ask(**{"x-request-timeout-ms": "soon"}), 400, "invalid-timeout")
    object.__setattr__(served, "deadline_ms", 0)
    is_problem(ask(), 504, "timeout")


def test_after_several_answers_that_are_not_finite_the_service_is_not_ready(
    ask, is_problem, served, monkeypatch
) -> None:
    good = served.runner.infer
    broken = np.full((1, 4), np.nan, np.float32)
    monkeypatch.setattr(served.runner, "infer", lambda images: broken)
    is_problem(ask(), 500, "invalid-model-output")
    monkeypatch.setattr(served.runner, "infer", good)
    assert ask().status_code == 200  # one that was well between them starts the count again
    monkeypatch.setattr(served.runner, "infer", lambda images: broken)
    for _ in range(served.max_invalid):
        assert served.is_sound
        is_problem(ask(), 500, "invalid-model-output")
    assert not served.is_sound
    is_problem(ask(), 503, "not-ready")
    monkeypatch.setattr(served.runner, "infer", good)
    is_problem(ask(), 503, "not-ready")  # only a new start makes it ready

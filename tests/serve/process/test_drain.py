from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import httpx
import pytest
from starlette.responses import PlainTextResponse

from serve.process.drain import Drain, Leaving


def drain_of(*, grace_s: float) -> Drain:
    """A drain whose watchdog does not end the process of the tests."""
    return Drain(grace_s=grace_s, drain_s=60, end=lambda code: None)


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_server_stops_after_the_grace_and_not_before() -> None:
    async def scenario() -> list[float]:
        loop, stopped = asyncio.get_running_loop(), []
        begun = loop.time()
        previous = signal.signal(
            signal.SIGTERM, lambda number, frame: stopped.append(loop.time() - begun)
        )
        drain = drain_of(grace_s=0.2)
        restore = drain.take_sigterm()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: drain.draining)
            assert stopped == []
            await until(lambda: bool(stopped))
        finally:
            restore()
            signal.signal(signal.SIGTERM, previous)
        return stopped

    [after_s] = asyncio.run(scenario())
    assert 0.2 <= after_s < 2


def test_a_second_sigterm_skips_the_grace() -> None:
    async def scenario() -> int:
        drain, stops = drain_of(grace_s=60), []
        loop = asyncio.get_running_loop()
        drain.begin(lambda: stops.append(1), loop)
        drain.begin(lambda: stops.append(2), loop)
        return stops[0]

    assert asyncio.run(scenario()) == 2


def test_without_a_parent_there_is_no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        drain, stops = drain_of(grace_s=60), []
        monkeypatch.setattr(os, "getppid", lambda: -1)  # 1 may be the parent
        drain.begin(lambda: stops.append(1), asyncio.get_running_loop())
        await until(lambda: stops == [1])

    asyncio.run(scenario())


def test_what_is_still_open_is_cut_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> list[int]:
        codes: list[int] = []
        drain = Drain(grace_s=0, drain_s=0.05, end=codes.append)
        drain.begin(lambda: None, asyncio.get_running_loop())
        await until(lambda: bool(codes))
        return codes

    assert asyncio.run(scenario()) == [1]
    assert "they are cut. Raise STILLROOM_DRAIN_S" in caplog.text


def test_answers_close_their_connection_only_while_draining(open_client) -> None:
    drain = drain_of(grace_s=60)
    answer = PlainTextResponse("x", headers={"connection": "keep-alive"})

    async def scenario() -> list[httpx.Headers]:
        async with open_client(Leaving(answer, drain)) as client:
            before = await client.get("/")
            drain.draining = True
            after = await client.get("/")
        return [before.headers, after.headers]

    before, after = asyncio.run(scenario())
    assert before.get_list("connection") == ["keep-alive"]
    assert after.get_list("connection") == ["close"]

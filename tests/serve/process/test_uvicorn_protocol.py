"""Headers have a deadline, and broken HTTP gets an answer like every other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.responses import PlainTextResponse
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.server import ServerState

from serve.http.problems import Problem
from serve.process.uvicorn_protocol import Connection, install_connection, response_bytes
from serve.telemetry.metrics import Metrics

TIMEOUT_S = 0.2
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """An app that takes longer than headers may, and reads the body to its end."""
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(1.5 * TIMEOUT_S)
    await PlainTextResponse("well")(scope, receive, send)


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers before it has read, and goes on answering."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await asyncio.sleep(5)


class Wire:
    """A client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> bytes:
        """One whole answer, on a connection that stays open."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head + await self._reader.readexactly(length)

    async def rest(self) -> bytes:
        """All until the server closes."""
        return await self._reader.read()


Script = Callable[[Wire], Awaitable[Any]]


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    found = Metrics(CollectorRegistry())
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
    for name in ("header_timeout_s", "metrics"):
        monkeypatch.setattr(Connection, name, getattr(Connection, name))
    install_connection(header_timeout_s=TIMEOUT_S, metrics=found)
    return found


@pytest.fixture
def serving(metrics: Metrics) -> Callable[..., Any]:
    """A function that runs a client's script against a server of uvicorn's own making."""

    async def run(script: Script, app: Any) -> Any:
        config = uvicorn.Config(app, log_config=None, log_level="error")
        config.load()
        assert config.http_protocol_class is Connection
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(config, state, {}), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        try:
            wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
            return await asyncio.wait_for(script(wire), 20)
        finally:
            wire._writer.close()
            server.close()
            for task in state.tasks:
                task.cancel()

    return lambda script, app=slow: asyncio.run(run(script, app))


def problem_in(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    members: dict[str, Any] = json.loads(body)
    assert f"x-request-id: {members['instance']}".encode() in head
    return members


def test_headers_that_dribble_are_refused(serving, metrics: Metrics, log_lines) -> None:
    async def script(wire: Wire) -> bytes:
        for byte in HEAD:
            await wire.send(bytes([byte]))
            await asyncio.sleep(TIMEOUT_S / 7.5)
            if wire._reader._buffer:
                break
        with suppress(ConnectionResetError):  # by a byte that was sent after the end
            return await wire.rest()
        return bytes(wire._reader._buffer)  # the answer came before the reset

    answer = serving(script)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    problem = problem_in(answer)
    assert problem["type"].endswith(":headers-too-slow")
    assert problem["detail"] == "They must arrive within 0.2 s."
    [line] = log_lines()
    assert (line["status"], line["error"], line["id"]) == (
        408,
        "headers-too-slow",
        problem["instance"],
    )
    assert metrics.problems.labels("headers-too-slow")._value.get() == 1


def test_headers_without_end_are_refused_before_they_fill_the_memory(serving, log_lines) -> None:
    """What is still sent then may reset the connection, so the log is where to look."""

    async def script(wire: Wire) -> None:
        with suppress(ConnectionError):
            await wire.send(HEAD)
            for _ in range(2000):
                await wire.send(b"X-A: " + b"a" * 1000 + b"\r\n")
                await asyncio.sleep(0)
            pytest.fail("it took them all")

    serving(script)
    assert [line["error"] for line in log_lines()] == ["bad-request"]


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("trailer", [b"X-A: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_trailers_without_end_are_refused_as_headers_are(serving, log_lines, trailer) -> None:
    async def script(wire: Wire) -> None:
        with suppress(ConnectionError):
            await wire.send(CHUNKED + b"1\r\nx\r\n0\r\nX-B: ")
            for _ in range(2000):
                await wire.send(trailer)
                await asyncio.sleep(0)
            pytest.fail("it took them all")

    serving(script)
    assert [line["error"] for line in log_lines()] == ["bad-request"]


def test_trailers_are_no_headers(serving) -> None:
    """What was checked when the headers came must be what the app reads."""

    async def names(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        found = b" ".join(name for name, _ in scope["headers"]).decode()
        await PlainTextResponse(found)(scope, receive, send)

    async def script(wire: Wire) -> bytes:
        await wire.send(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer t\r\n\r\n")
        return await wire.answer()

    assert serving(script, names).endswith(b"\r\n\r\nhost transfer-encoding")


def test_many_small_chunks_are_a_body(serving) -> None:
    async def script(wire: Wire) -> bytes:
        await wire.send(CHUNKED)
        for _ in range(50):
            await wire.send(b"1\r\nx\r\n" * 1000)
        await wire.send(b"0\r\n\r\n")
        return await wire.answer()

    assert serving(script).startswith(b"HTTP/1.1 200 ")


def test_a_body_is_no_header(serving) -> None:
    async def script(wire: Wire) -> bytes:
        await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
        for _ in range(3):
            await wire.send(b"a" * 100_000)
        first = await wire.answer()
        await wire.send(HEAD + b"\r\n")
        assert (await wire.answer()).startswith(b"HTTP/1.1 200 ")
        return first

    assert serving(script).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("offer", "last"), [(b"Upgrade: h2c\r\n", b""), (b"", b"upgrade: h2c\r\n")]
)
def test_an_offer_of_http_2_keeps_its_body(serving, offer: bytes, last: bytes) -> None:
    """Java's client offers it with each request."""

    async def size(scope: Any, receive: Any, send: Any) -> None:
        count, more = 0, True
        while more:
            message = await receive()
            count, more = count + len(message.get("body", b"")), message.get("more_body")
        await PlainTextResponse(str(count))(scope, receive, send)

    async def script(wire: Wire) -> bytes:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n" + offer
        await wire.send(
            head + b"HTTP2-Settings: AAMAAABk\r\nContent-Length: 9\r\n" + last + b"\r\n"
        )
        await wire.send(b"ninebytes")
        return await wire.answer()

    assert serving(script, size).endswith(b"\r\n\r\n9")


def test_who_says_nothing_is_let_go_without_a_word(serving, log_lines) -> None:
    assert serving(Wire.rest) == b""
    assert not log_lines()


def test_the_second_request_of_a_connection_has_the_same_deadline(serving) -> None:
    async def script(wire: Wire) -> bytes:
        await wire.send(HEAD + b"\r\n")
        assert (await wire.answer()).startswith(b"HTTP/1.1 200 ")
        await wire.send(HEAD)
        return await wire.rest()

    assert problem_in(serving(script))["type"].endswith(":headers-too-slow")


def test_pauses_between_requests_slow_bodies_and_slow_answers_are_not_its_business(serving) -> None:
    async def script(wire: Wire) -> None:
        for _ in range(2):
            await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
            for _ in range(4):
                await asyncio.sleep(TIMEOUT_S / 2)
                await wire.send(b"x")
            assert (await wire.answer()).endswith(b"well")
            await asyncio.sleep(1.5 * TIMEOUT_S)

    serving(script)


def test_two_requests_at_once_are_both_answered(serving) -> None:
    async def script(wire: Wire) -> None:
        await wire.send(2 * (HEAD + b"\r\n"))
        for _ in range(2):
            assert (await wire.answer()).endswith(b"well")

    serving(script)


@pytest.mark.parametrize(
    "data",
    [b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", HEAD + b"X: \0\r\n\r\n"],
)
def test_broken_http_is_answered_as_all_else(serving, metrics: Metrics, data: bytes) -> None:
    async def script(wire: Wire) -> bytes:
        await wire.send(data)
        return await wire.rest()

    answer = serving(script)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert problem_in(answer)["type"].endswith(":bad-request")
    assert metrics.problems.labels("bad-request")._value.get() == 1


def test_an_answer_that_has_begun_is_not_followed_by_another(serving) -> None:
    async def script(wire: Wire) -> bytes:
        await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(TIMEOUT_S / 2)
        await wire.send(b"no chunk\r\n")
        return await wire.rest()

    answer = serving(script, endless)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_the_bytes_of_a_refusal() -> None:
    problem = Problem(408, "slow", "Slow", "Hurry.", {"retry-after": "1"})
    head, _, body = response_bytes(problem, "abc").partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 408 Request Timeout",
        b"content-type: application/problem+json",
        b"content-length: %d" % len(body),
        b"cache-control: no-store",
        b"connection: close",
        b"x-request-id: abc",
        b"retry-after: 1",
    ]
    assert body == problem.body("abc")

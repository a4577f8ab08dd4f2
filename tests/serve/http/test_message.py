"""What RFC 9112 asks of a request, over a socket: the guard behind uvicorn, without BentoML."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from serve.http.guard import Guard
from serve.process.uvicorn_protocol import Connection

GET = b"GET /livez HTTP/1.1\r\n"
POST = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n"
LAST = GET + b"Host: x\r\nConnection: close\r\n\r\n"
BODY = b"3\r\nabc\r\n0\r\n\r\n"
GOOD = POST + b"Content-Length: 3\r\n\r\nabc"


async def count(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body."""
    body = (await receive()).get("body", b"")
    await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(Guard(count), http=Connection, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def answers(port: int, data: bytes) -> list[tuple[int, str]]:
    """Status and problem of each answer until the service closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(data)
        got = b""
        while piece := wire.recv(65536):
            got += piece
    heads = re.split(rb"(?=HTTP/1\.1 \d)", got)[1:]
    return [
        (int(one[9:12]), (re.findall(rb"urn:stillroom:problem:([\w-]+)", one) or [b""])[0].decode())
        for one in heads
    ]


@pytest.mark.parametrize(
    "host",
    [
        b"x",
        b"x:",
        b"a_b.c:3000",
        b"127.0.0.1:1",
        b"[::1]:80",
        b"[fe80::1%25eth0]",
        b"%41.x",
        b"X-Y",
    ],
)
def test_a_host_is_taken(port: int, host: bytes) -> None:
    close = b"\r\nConnection: close\r\n\r\n"
    assert answers(port, GET + b"Host: " + host + close) == [(200, "")]


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Host: x\r\nHost: x\r\n",
        b"Host: x\r\nhost: y\r\n",
        b"Host:\r\n",
        b"Host: :80\r\n",
        b"Host: a b\r\n",
        b"Host: u@x\r\n",
        b"Host: x/y\r\n",
        b"Host: x:port\r\n",
        b"Host: [::1\r\n",
        b"Host: %zz\r\n",
        b"Host: caf\xc3\xa9\r\n",
    ],
)
def test_none_two_and_an_invalid_host_are_refused_and_the_connection_ends(
    port: int, lines: bytes
) -> None:
    for start in (GET, b"GET http://x/livez HTTP/1.1\r\n"):
        assert answers(port, start + lines + b"\r\n" + LAST) == [(400, "invalid-host")]


def test_http_1_0_need_not_name_a_host_but_not_two(port: int) -> None:
    old = b"GET /livez HTTP/1.0\r\n"
    assert answers(port, old + b"\r\n") == [(200, "")]
    assert answers(port, old + b"Host:\r\n\r\n") == [(200, "")]
    assert answers(port, old + b"Host: x\r\nHost: x\r\n\r\n") == [(400, "invalid-host")]


def test_the_absolute_form_is_read_by_its_path(port: int) -> None:
    close = b"Host: other\r\nConnection: close\r\n\r\n"
    assert answers(port, b"GET http://x/livez HTTP/1.1\r\n" + close) == [(200, "")]
    assert answers(port, b"GET http://x/none HTTP/1.1\r\n" + close) == [(404, "not-found")]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /livez\r\n",
        b"GET /livez\n",
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/0.9\r\n\r\n",
        b"POST /v1/classify\r\n\r\nabc",
        b"PUT /livez\r\n",
    ],
)
def test_http_0_9_is_no_request(port: int, data: bytes) -> None:
    assert answers(port, data) == [(400, "bad-request")]


def test_http_2_without_negotiation_is_another_version(port: int) -> None:
    assert answers(port, b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n") == [
        (505, "unsupported-version")
    ]


@pytest.mark.parametrize(
    ("coding", "status"),
    [
        (b"Transfer-Encoding: gzip, chunked", 501),
        (b"Transfer-Encoding: GZip,chunked", 501),
        (b"Transfer-Encoding: identity, chunked", 501),
        (b"Transfer-Encoding: gzip;q=1, br , Chunked", 501),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
        (b"Transfer-Encoding: chunked, gzip", 400),
        (b"Transfer-Encoding: chunked, chunked", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: gzip", 400),
        (b"Transfer-Encoding: chunked;a=1", 400),
        (b"Transfer-Encoding: xchunked", 400),
        (b"Transfer-Encoding:", 400),
        (b"Transfer-Encoding: , chunked", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3", 400),
    ],
)
def test_transfer_codings(port: int, coding: bytes, status: int) -> None:
    """What we cannot decode is 501, what leaves the end of the body open 400; no answer follows."""
    for start in (POST, GET + b"Host: x\r\n"):
        alone = answers(port, start + coding + b"\r\n\r\n" + BODY + LAST)
        assert [found for found, _ in alone] == [status]
        after = answers(port, GOOD + start + coding + b"\r\n\r\n" + BODY + LAST)
        assert [found for found, _ in after] == [200, status]


def test_chunked_is_taken_in_http_1_1_alone(port: int) -> None:
    body = b"Transfer-Encoding: Chunked\r\nConnection: close\r\n\r\n" + BODY
    assert answers(port, POST + body) == [(200, "")]
    old = answers(port, POST.replace(b"1.1", b"1.0") + body)
    assert old == [(400, "invalid-transfer-encoding")]


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (GOOD + GOOD + b"nonsense\r\n\r\n", [200, 200, 400]),
        (GOOD + POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", [200, 400]),
        (2 * GOOD + POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd", [200, 200, 400]),
        (GOOD + GET + b"\r\n" + LAST, [200, 400]),
        (GOOD + b"GET /livez\r\n\r\n" + LAST, [200, 400]),
    ],
)
def test_what_is_broken_is_refused_after_the_answers_before_it(
    port: int, data: bytes, statuses: list[int]
) -> None:
    assert [status for status, _ in answers(port, data)] == statuses


@pytest.mark.parametrize("broken", [b"GET /livez\r\n", b"GET / HTTP/9\r\n\r\n", GET + b"\r\n"])
def test_a_kept_connection_is_no_way_round(port: int, broken: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        for _ in range(2):
            wire.sendall(GOOD)
            assert wire.recv(65536).endswith(b"3 bytes")
        wire.sendall(broken)
        assert wire.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert wire.recv(65536) == b""

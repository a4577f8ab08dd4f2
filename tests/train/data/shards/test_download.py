"""Shards behind URLs, without any program beside Python: what servers do, and what is said."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic

import httpx
import pytest

import train.data.shards.cache
import train.data.shards.download
from serve.contract.errors import DatasetError
from train.data.shards.cache import fetch

DATA = bytes(range(256)) * 8192  # 2 MiB
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, no program to be found, and no long waits."""
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    monkeypatch.setattr(train.data.shards.cache, "PAUSE_S", 0.01)
    monkeypatch.setattr(train.data.shards.download, "PAUSE_S", 0.01)


@contextmanager
def serving(*answers: Answer) -> Iterator[str]:
    """A server that gives these answers in turn, and the last one again and again."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (left.pop(0) if len(left) > 1 else left[0])(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/1.tar"
        server.shutdown()
        thread.join()


def status(code: int, data: bytes = b"", **headers: str) -> Answer:
    def answer(to: BaseHTTPRequestHandler) -> None:
        to.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        to.wfile.write(data)

    return answer


def cut_chunks(to: BaseHTTPRequestHandler) -> None:
    to.protocol_version = "HTTP/1.1"
    to.close_connection = True
    to.send_response(200)
    to.send_header("Transfer-Encoding", "chunked")
    to.end_headers()
    to.wfile.write(b"3\r\nabc\r\n")


def nothing(to: BaseHTTPRequestHandler) -> None:
    to.connection.shutdown(socket.SHUT_RDWR)


good = status(200, DATA)


def read(url: str) -> bytes:
    with fetch(url).file as file:
        return file.read()


@pytest.mark.parametrize(
    "answers",
    [
        [good],
        [status(503), status(429), good],
        [status(503, Retry_After="0"), status(408), status(502), status(504), good],
        [nothing, good],
        [cut_chunks, good],
        [status(404), status(403), good],
    ],
)
def test_it_arrives(answers: list[Answer]) -> None:
    with serving(*answers) as url:
        assert read(url) == DATA


def test_a_busy_server_is_waited_for_as_long_as_it_says() -> None:
    with serving(status(503, Retry_After="1"), good) as url:
        start = monotonic()
        assert read(url) == DATA
        assert monotonic() - start >= 1


def test_a_redirect_is_followed_and_compressed_bytes_stay_as_they_are() -> None:
    packed = gzip.compress(DATA)
    with serving(status(200, packed, Content_Encoding="gzip")) as target:  # noqa: SIM117
        with serving(status(302, Location=target)) as url:
            assert read(url) == packed


def test_a_name_and_password_in_the_address_are_sent() -> None:
    def guarded(to: BaseHTTPRequestHandler) -> None:
        (good if to.headers.get("Authorization") == "Basic YTpi" else status(401))(to)

    with serving(guarded) as url:
        assert read(url.replace("//", "//a:b@")) == DATA
        with pytest.raises(DatasetError, match=r"refuses it \(401 Unauthorized\)"):
            fetch(url)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(404), r"the server refuses it \(404 Not Found\)"),
        (status(410), r"the server refuses it \(410 Gone\)"),
        (nothing, "the transfer broke off"),
        (cut_chunks, "the transfer broke off"),
        (status(302, Location="ftp://x/1.tar"), "ftp"),
    ],
)
def test_one_that_does_not_arrive_says_why(answer: Answer, words: str) -> None:
    with serving(answer) as url, pytest.raises(DatasetError, match=words) as caught:
        fetch(url)
    assert "failed 4 times" in caught.value.message


def test_a_server_that_stays_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.data.shards.download, "ASKED", 3)
    with serving(status(503)) as url, pytest.raises(DatasetError, match="503 Service Unavailable"):
        fetch(url)


def test_a_host_that_nobody_knows() -> None:
    with pytest.raises(DatasetError, match="the host is not known"):
        fetch("http://nobody.invalid/1.tar")


def test_a_server_that_speaks_no_tls() -> None:
    with serving(good) as url, pytest.raises(DatasetError, match="no secure connection"):
        fetch(url.replace("http:", "https:"))


def test_a_server_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.data.shards.download, "TIMEOUT", httpx.Timeout(0.1))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(DatasetError, match="it takes too long"):
            fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/1.tar")

"""Connection: what the service does before there is a request, on uvicorn's side of the guard.

The guard sees requests; a client that dribbles its headers never becomes one, and broken HTTP is
answered by uvicorn itself, in plain text. Both end here as problem+json, in the request log and in
the metrics.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from serve.http.exchange import log_request
from serve.http.problems import MEDIA_TYPE, Problem
from serve.telemetry.metrics import Metrics

__all__ = ["Connection", "install_connection", "response_bytes"]

MAX_HEAD_BYTES = 64 * 2**10  # of a request line and headers that are not whole yet
UPGRADE = re.compile(rb"^upgrade:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)
SIMPLE = re.compile(rb"[A-Z]+ [^ \r\n]+\r?\n")  # a whole request of HTTP/0.9, which has no headers
BROKEN = Problem(
    400,
    "bad-request",
    "The request is malformed",
    "It is not HTTP/1.1, or its headers or trailers are larger than 64 KiB.",
)


class Connection(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # chosen by uvicorn at import
    """uvicorn's protocol, with a deadline on request headers.

    The clock runs from the moment a connection opens, or the first byte after a response comes,
    until the headers are whole. Time between requests is left to uvicorn's keep-alive timeout, time
    of a body to the guard.

    Attributes:
        header_timeout_s: time in which the headers of a request must have arrived.
        metrics: where refusals are counted; not at all when None.
    """

    header_timeout_s: ClassVar[float] = 10.0
    metrics: ClassVar[Metrics | None] = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._latest: Any = None  # uvicorn's cycle of the request whose headers came last
        self._begun = False
        self._head_bytes = 0  # since the last headers were whole, or the last piece of a body
        self._broken = False  # what came last is not HTTP, and is refused after earlier responses
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when headers are whole, start it when others begin, and bound them.

        Trailers, which a chunked body may end with, are bounded as headers are.
        """
        if self._broken:
            return
        is_head = self.cycle is None or not self.cycle.more_body
        self._head_bytes += len(data)
        super().data_received(_without_upgrade(data) if is_head else data)
        if self.cycle is not self._latest:
            self._latest, self._begun, self._head_bytes = self.cycle, False, 0
            self._stop_clock()
            return
        is_simple = is_head and self._head_bytes == len(data) and SIMPLE.fullmatch(data)
        if is_simple or self._head_bytes > MAX_HEAD_BYTES:  # httptools has no limit of its own
            self._refuse_in_turn()
        elif self.cycle is None or self.cycle.response_complete:
            self._begun = True
            if self._clock is None:
                self._start_clock()

    def on_headers_complete(self) -> None:
        """Begin the request, and close its list of headers: trailers would be added to it."""
        super().on_headers_complete()
        self.headers = _NoMore()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._head_bytes = 0
        super().on_body(body)

    def connection_lost(self, error: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(error)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; uvicorn calls this."""
        self._refuse_in_turn()

    def on_response_complete(self) -> None:
        """Answer the next request of the connection, or refuse what came instead of one."""
        is_last = not self.pipeline
        super().on_response_complete()
        if self._broken and is_last:
            self._refuse(BROKEN)

    def _start_clock(self) -> None:
        self._started_at = time.perf_counter()
        self._clock: asyncio.TimerHandle | None = self.loop.call_later(
            self.header_timeout_s, self._too_slow
        )

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        if self._begun:
            self._refuse(
                Problem(
                    408,
                    "headers-too-slow",
                    "The headers took too long to arrive",
                    f"They must arrive within {self.header_timeout_s:g} s.",
                )
            )
        else:
            self.transport.close()  # who said nothing gets no response

    def _refuse_in_turn(self) -> None:
        """Refuse what came last, after the responses to the requests before it; read no further."""
        self._broken = True
        if self.pipeline:
            if self.cycle.more_body:  # what broke is a body, and its request waits in the line
                self.pipeline.popleft()
        elif self.cycle is None or self.cycle.more_body or self.cycle.response_complete:
            self._refuse(BROKEN)

    def _refuse(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        request_id = secrets.token_hex(8)
        between_responses = self.cycle is None or self.cycle.response_complete
        if between_responses or not self.cycle.response_started:
            self.transport.write(response_bytes(problem, request_id))
        self.transport.close()
        if self.metrics:
            self.metrics.observe_request("other", problem.status, problem.slug)
        log_request(
            method="",
            path="",
            status=problem.status,
            started_at=self._started_at,
            request_id=request_id,
            error=problem.slug,
            fault="",
        )


class _NoMore(list[tuple[bytes, bytes]]):
    def append(self, header: tuple[bytes, bytes]) -> None:
        pass


def _without_upgrade(data: bytes) -> bytes:
    """What begins a request, without an offer of another protocol, which nobody here takes.

    Java's client offers HTTP/2 with each request, and httptools would then drop the body.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if b"pgrade:" not in head and b"PGRADE:" not in head:
        return data
    return UPGRADE.sub(b"", head + b"\r\n")[:-2] + end + rest


def install_connection(*, header_timeout_s: float, metrics: Metrics | None) -> None:
    """Let the server of this process, which BentoML makes, use `Connection`.

    BentoML has no option for it; it takes uvicorn's protocol named "auto". The case of dribbling
    clients in tests/serve/attack_cases.py notices when that changes.
    """
    Connection.header_timeout_s = header_timeout_s
    Connection.metrics = metrics
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"


def response_bytes(problem: Problem, request_id: str) -> bytes:
    """A whole HTTP/1.1 response, after which the connection closes."""
    body = problem.body(request_id)
    lines = [
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        f"content-type: {MEDIA_TYPE}",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "connection: close",
        f"x-request-id: {request_id}",
        *(f"{name}: {value}" for name, value in problem.headers.items()),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

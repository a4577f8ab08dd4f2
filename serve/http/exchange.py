"""Exchange: one request and its response, as the guard sees them, and the line of the log for both.

The app inside sets `problem` and answers with a bare status. Every response of 400 and above,
whoever wrote it, leaves as problem+json from here, so there is one place that decides what
strangers read. The log has one line of JSON per request on stdout, and nothing else per request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from serve.http.problems import MEDIA_TYPE, Problem, problem_of_status
from serve.http.routes import RouteTable

__all__ = [
    "Exchange",
    "exchange_of",
    "fault_line",
    "log_line",
    "log_request",
    "start_request_log",
]

SCOPE_KEY = "stillroom.exchange"
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
HIDDEN = {b"server", b"x-request-id", b"x-bentoml-request-id", b"x-bentoml-trace-id"}
IDS = Random()  # it names requests and guards nothing, so it need not ask the system each time
LINGER_BYTES = 64 * 2**20
MAX_PATH = 200  # of a line in the log: a path is a stranger's text


class Exchange:
    """Request id, state and the way out.

    Args:
        scope: ASGI scope of an HTTP request.
        send: ASGI send of the server.
        routes: says how problems are written.
    """

    def __init__(self, scope: Scope, send: Send, routes: RouteTable) -> None:
        self.request_id = _request_id(scope)
        self.problem: Problem | None = None
        self.status = 0
        self.fault = ""
        self.started_at = time.perf_counter()
        self._path = scope["path"]
        self._routes = routes
        self._send = send
        self._swallow = False

    @property
    def elapsed_ms(self) -> float:
        """Time since the request came."""
        return (time.perf_counter() - self.started_at) * 1e3

    async def send(self, message: Message) -> None:
        """ASGI send for the app inside: rewrites errors, adds the request id, hides the server."""
        if message["type"] != "http.response.start":
            if not self._swallow:
                await self._send(message)
            return
        if message["status"] >= 400:
            self._swallow = True
            await self.refuse(self.problem or problem_of_status(message["status"]))
            return
        kept = [(k, v) for k, v in message.get("headers", []) if k.lower() not in HIDDEN]
        await self._start(message["status"], kept)

    async def refuse(
        self, problem: Problem, unread: Receive | None = None, linger_s: float = 0.0
    ) -> None:
        """Answer with a problem.

        Args:
            problem: the response.
            unread: ASGI receive, if the body was not read to its end. The response is sent whole,
                then what still arrives is discarded for a while before the connection closes: a
                client that still sends would otherwise see a reset and never read the response.
            linger_s: how long at most.
        """
        self.problem = problem
        body, media_type = problem.body(self.request_id), MEDIA_TYPE
        if error_body := self._routes.error_body_of(self._path):
            body, media_type = error_body(problem)
        headers = {
            "content-type": media_type,
            "content-length": str(len(body)),
            "cache-control": "no-store",
            **problem.headers,
        }
        if unread is not None:
            headers["connection"] = "close"
        await self._start(
            problem.status, [(k.encode(), v.encode("latin-1")) for k, v in headers.items()]
        )
        lingering = unread is not None
        await self._send({"type": "http.response.body", "body": body, "more_body": lingering})
        if unread is not None:
            await _discard(unread, linger_s)
            await self._send({"type": "http.response.body", "body": b""})

    def leave(self, problem: Problem) -> None:
        """Note why nobody is left to respond to."""
        self.problem, self.status = problem, problem.status

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        tagged = [*headers, (b"x-request-id", self.request_id.encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": tagged})


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that the guard put into the scope."""
    exchange: Exchange = scope[SCOPE_KEY]
    return exchange


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE_ID.fullmatch(text := value.decode("latin-1")):
            return str(text)
    return f"{IDS.getrandbits(64):016x}"


async def _discard(receive: Receive, linger_s: float) -> None:
    left = LINGER_BYTES
    try:
        async with asyncio.timeout(linger_s):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


def start_request_log() -> None:
    """Leave the log of requests to these lines: libraries say nothing more about one."""
    # They warn of every malformed body and request; ours names the problem.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def log_request(
    *,
    method: str,
    path: str,
    status: int,
    started_at: float,
    request_id: str,
    error: str,
    fault: str,
) -> None:
    """Write the line, straight to stdout: the machinery of `logging` costs more than the line.

    Args:
        method: HTTP method.
        path: of the request; cut after 200 characters.
        status: as sent; 499 when the client had gone.
        started_at: `time.perf_counter()` at the first byte.
        request_id: as in the response.
        error: slug of the problem, or empty.
        fault: exception and place of a 500, for the operator only; or empty.
    """
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "method": method[:16],
        "path": path[:MAX_PATH],
        "status": status,
        "ms": round((time.perf_counter() - started_at) * 1e3, 2),
        "id": request_id,
    }
    if error:
        line["error"] = error
    if fault:
        line["fault"] = fault
    log_line(line)


def log_line(members: dict[str, Any]) -> None:
    """Write one line of JSON, of a request or of an event between them."""
    with suppress(OSError, ValueError):  # a reader that went away is not the request's fault
        sys.stdout.write(json.dumps(members, ensure_ascii=True) + "\n")
        sys.stdout.flush()


def fault_line(error: BaseException) -> str:
    """An unexpected exception in one line: type, message, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"[:500]

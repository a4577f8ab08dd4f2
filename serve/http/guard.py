"""Guard: the outermost layer of the service. What is not allowed never reaches BentoML.

* What RFC 9112 does not allow is refused (serve.http.message).
* Only the paths and methods of ROUTES exist; BentoML's own pages do not.
* Where the service has a token, nothing but probes is answered without it.
* A request that would not be answered in its time is refused before its body is read.
* A body is read here, whole, counted while it arrives and against the clock. Nothing behind the
  guard waits for a client, so a client that dribbles holds no slot.
* Every error is problem+json, every request is one log line, no exception leaves.

What happens before there is a request (headers that dribble, broken HTTP) is in
`serve.process.uvicorn_protocol`.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.admission import Headers, overloaded
from serve.http.asgi_switch import BENTOML_PATHS
from serve.http.message import check_message
from serve.http.problems import Problem, RequestError, problem_of_status
from serve.http.request_log import fault_line, log_request
from serve.http.response import SCOPE_KEY, Exchange
from serve.telemetry.metrics import Metrics

__all__ = ["CLIENT_GONE", "ROUTES", "Guard", "GuardLimits"]

ROUTES = {
    "/": ("GET", "HEAD"),
    "/v1/classify": ("POST",),
    "/v1/classify/batch": ("POST",),
    "/v1/model": ("GET", "HEAD"),
    "/openapi.json": ("GET", "HEAD"),
    "/v2": ("GET",),
    "/v2/health/live": ("GET",),
    "/v2/health/ready": ("GET",),
    "/livez": ("GET", "HEAD"),
    "/readyz": ("GET", "HEAD"),
    "/healthz": ("GET", "HEAD"),
    "/metrics": ("GET", "HEAD"),
}
# Of the Open Inference Protocol: the part after the model decides the method.
OF_MODEL = re.compile(
    r"/v2/models/[\w.-]{1,128}(?:/versions/[\w.-]{1,64})?(/ready|/infer)?", re.ASCII
)
MAX_PATH = 2048
MAX_HEADER_BYTES = 16 * 2**10
REFUSE_WITHIN_S = 0.02
HELD_MS = 1000.0  # bodies that are held come and go within that time
PROBES = ("/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready")
OPEN = (*PROBES, "/")  # without a token: the page holds nothing, and asks for one
CLIENT_GONE = Problem(499, "client-gone", "The client closed the connection")


@dataclass(frozen=True)
class GuardLimits:
    """What one request, and all of them together, may cost before they are understood.

    Args:
        max_body_bytes: largest body.
        body_timeout_s: time in which the body must have arrived.
        max_held_bytes: bodies of all requests together, by what is served now.
        linger_s: time for which the rest of a refused body is discarded before closing.
    """

    max_body_bytes: int = 10 * 2**20
    body_timeout_s: float = 10.0
    max_held_bytes: Callable[[], int] = lambda: 256 * 2**20
    linger_s: float = 5.0


class Guard:
    """ASGI app around the whole service.

    Args:
        app: the service.
        limits: of bodies.
        metrics: where answers are counted; not at all when None.
        token: that every request but a probe must carry as a bearer; empty asks for none.
        admit: raises RequestError for headers of a POST that would not be answered in time.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: GuardLimits | None = None,
        metrics: Metrics | None = None,
        token: bytes = b"",
        admit: Callable[[Headers], None] = lambda headers: None,
    ) -> None:
        self._app = app
        self._token = token
        self._admit = admit
        self._limits = limits or GuardLimits()
        self._metrics = metrics
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            with self._counted(scope["path"]):
                await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, send)
        body = _Body(receive)
        try:
            check_message(scope)
            check_request_line(scope)
            if self._token and scope["path"] not in OPEN:
                check_token(scope, self._token)
            if scope["method"] == "POST":
                check_body_headers(scope, self._limits.max_body_bytes)
                await self._read_if_admitted(scope, body)
            await self._app({**scope, SCOPE_KEY: exchange}, body.receive, exchange.send)
            if not exchange.status:
                await exchange.refuse(problem_of_status(500))
        except RequestError as error:
            if error.problem is CLIENT_GONE:
                exchange.leave(CLIENT_GONE)
            elif body.complete or scope["method"] != "POST":
                await exchange.refuse(error.problem)
            else:
                self._release(body)  # lingering holds nothing
                await exchange.refuse(error.problem, receive, self._limits.linger_s)
        except Exception as error:  # noqa: BLE001 - the outermost layer: nothing may leave
            exchange.fault = fault_line(error)
            if not exchange.status:
                await exchange.refuse(problem_of_status(500))
        finally:
            self._release(body)
            self._record(scope, exchange)

    async def _read_if_admitted(self, scope: Scope, body: _Body) -> None:
        """Read the body; of a request that is refused, only what comes at once.

        That keeps the connection of a client on a fast line, which may be sent away often.
        """
        try:
            self._admit(scope["headers"])
        except RequestError:
            with suppress(TimeoutError):
                async with asyncio.timeout(REFUSE_WITHIN_S):
                    await self._read(body)
            raise
        await self._read(body)

    async def _read(self, body: _Body) -> None:
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                while not body.complete:
                    self._held_bytes += await body.read_chunk()
                    if body.size > self._limits.max_body_bytes:
                        raise RequestError(_too_large(self._limits.max_body_bytes))
                    if self._held_bytes > self._limits.max_held_bytes():
                        raise RequestError(overloaded(HELD_MS))
        except TimeoutError:
            raise RequestError(_too_slow(self._limits.body_timeout_s)) from None

    def _release(self, body: _Body) -> None:
        self._held_bytes -= body.size
        body.drop()

    def _counted(self, path: str) -> AbstractContextManager[object]:
        if self._metrics is None or path in BENTOML_PATHS:
            return nullcontext()
        return self._metrics.in_flight.track_inprogress()

    def _record(self, scope: Scope, exchange: Exchange) -> None:
        slug = exchange.problem.slug if exchange.problem else ""
        if self._metrics:
            self._metrics.observe_request(route_of(scope["path"]), exchange.status, slug)
        log_request(
            method=scope["method"],
            path=scope["path"],
            status=exchange.status,
            started_at=exchange.started_at,
            request_id=exchange.request_id,
            error=slug,
            fault=exchange.fault,
        )


class _Body:
    """A request body that is read once, then replayed to the app."""

    def __init__(self, receive: Receive) -> None:
        self.size = 0
        self.complete = False
        self._receive = receive
        self._chunks: list[bytes] = []
        self._replayed = False

    async def read_chunk(self) -> int:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise RequestError(CLIENT_GONE)
        chunk = message.get("body", b"")
        self._chunks.append(chunk)
        self.size += len(chunk)
        self.complete = not message.get("more_body", False)
        return len(chunk)

    def drop(self) -> None:
        """Forget what was read."""
        self._chunks.clear()
        self.size = 0

    async def receive(self) -> Message:
        """ASGI receive for the app: the whole body at once, then whatever the server says."""
        if self._replayed or not self.complete:
            return await self._receive()
        self._replayed = True
        data = b"".join(self._chunks)
        self._chunks.clear()
        return {"type": "http.request", "body": data, "more_body": False}


def check_request_line(scope: Scope) -> None:
    """Refuse a path or method that ROUTES does not hold, and headers of unlikely size.

    Raises:
        RequestError: 404, 405, 414 or 431.
    """
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        limit = f"The limit is {MAX_HEADER_BYTES} bytes."
        raise RequestError(Problem(431, "headers-too-large", "The headers are too large", limit))
    if len(scope.get("raw_path") or scope["path"]) > MAX_PATH:
        raise RequestError(Problem(414, "path-too-long", "The path is too long"))
    methods = methods_of(scope["path"])
    if methods is None:
        known = "Send images to POST /v1/classify; see also GET /v1/model."
        raise RequestError(Problem(404, "not-found", "There is no such resource", known))
    if scope["method"] not in methods:
        allowed = ", ".join(methods)
        raise RequestError(
            Problem(
                405,
                "method-not-allowed",
                "The resource does not support this method",
                f"Allowed here: {allowed}.",
                {"allow": allowed},
            )
        )


def methods_of(path: str) -> tuple[str, ...] | None:
    """The methods that a path takes; None where there is no such path."""
    if path in ROUTES:
        return ROUTES[path]
    if match := OF_MODEL.fullmatch(path):
        return ("POST",) if match[1] == "/infer" else ("GET",)
    return None


def route_of(path: str) -> str:
    """A path for metrics, from a closed list."""
    if path in ROUTES:
        return path
    if match := OF_MODEL.fullmatch(path):
        return f"/v2/models{match[1] or ''}"
    return "other"


def check_token(scope: Scope, token: bytes) -> None:
    """Refuse a request without the token, in a time that does not tell how much of it was right.

    Raises:
        RequestError: 401.
    """
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    kind, _, rest = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    if kind.lower() == b"bearer" and hmac.compare_digest(rest.strip(), token):
        return
    raise RequestError(
        Problem(
            401,
            "unauthorized",
            "The request carries no valid token",
            "Send the header Authorization: Bearer, with the token of this service.",
            {"www-authenticate": 'Bearer realm="stillroom"'},
        )
    )


def check_body_headers(scope: Scope, max_body_bytes: int) -> None:
    """Refuse a body by what its headers say, before a byte of it is read.

    Raises:
        RequestError: 413 or 415.
    """
    headers = dict(scope["headers"])
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RequestError(
            Problem(
                415,
                "unsupported-encoding",
                "Compressed bodies are not accepted",
                "Send the image file as it is, without Content-Encoding.",
            )
        )
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > max_body_bytes:
        raise RequestError(_too_large(max_body_bytes))


def _too_large(max_body_bytes: int) -> Problem:
    limit = f"The limit is {max_body_bytes} bytes ({max_body_bytes / 2**20:g} MiB)."
    return Problem(413, "too-many-bytes", "The body is too large", limit)


def _too_slow(timeout_s: float) -> Problem:
    limit = f"It must arrive within {timeout_s:g} s."
    return Problem(408, "body-too-slow", "The body took too long to arrive", limit)

"""Guard: the outermost layer of the service. What is not allowed never reaches BentoML.

* What RFC 9112 does not allow is refused (serve.http.message).
* Only the paths and methods of the route table exist; BentoML's own pages do not.
* Where the service has a token, nothing but probes is served without it.
* A request that would not be served in its time is refused before its body is read.
* A body is read here, whole, counted while it arrives and against the clock. Nothing behind the
  guard waits for a client, so a client that dribbles holds no slot.
* Every error is problem+json, every request is one log line, no exception leaves.

What happens before there is a request (headers that dribble, broken HTTP) is in
`serve.process.uvicorn_protocol`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.admission import Headers, overloaded
from serve.http.exchange import SCOPE_KEY, Exchange, fault_line, log_request
from serve.http.message import (
    check_body_headers,
    check_message,
    check_request_line,
    check_token,
    too_large,
)
from serve.http.problems import CLIENT_GONE, Problem, RequestError, problem_of_status
from serve.http.routes import Route, RouteTable, route_table
from serve.telemetry.metrics import Metrics

__all__ = ["Guard", "GuardLimits"]

REFUSE_WITHIN_S = 0.02
HELD_MS = 1000.0  # bodies that are held come and go within that time


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
        metrics: where responses are counted; not at all when None.
        token: that every request but a probe must carry as a bearer; empty asks for none.
        admit: raises RequestError for headers of a POST that would not be served in time.
        routes: what exists; `route_table()` when None.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: GuardLimits | None = None,
        metrics: Metrics | None = None,
        token: bytes = b"",
        admit: Callable[[Headers], None] = lambda headers: None,
        routes: RouteTable | None = None,
    ) -> None:
        self._app = app
        self._routes = routes or route_table()
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
            route = self._routes.find(scope["path"])
            with self._counted(route):
                await self._respond(scope, route, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _respond(
        self, scope: Scope, route: Route | None, receive: Receive, send: Send
    ) -> None:
        exchange = Exchange(scope, send, self._routes)
        body = _Body(receive)
        try:
            check_message(scope)
            if check_request_line(scope, route).needs_token and self._token:
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
            self._record(scope, route, exchange)

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
                    came = await body.read_chunk()  # not in one line: others count meanwhile
                    self._held_bytes += came
                    if body.size > self._limits.max_body_bytes:
                        raise RequestError(too_large(self._limits.max_body_bytes))
                    if self._held_bytes > self._limits.max_held_bytes():
                        raise RequestError(overloaded(HELD_MS))
        except TimeoutError:
            raise RequestError(_too_slow(self._limits.body_timeout_s)) from None

    def _release(self, body: _Body) -> None:
        self._held_bytes -= body.size
        body.drop()

    def _counted(self, route: Route | None) -> AbstractContextManager[object]:
        if self._metrics is None or (route and not route.handler):
            return nullcontext()
        return self._metrics.in_flight.track_inprogress()

    def _record(self, scope: Scope, route: Route | None, exchange: Exchange) -> None:
        slug = exchange.problem.slug if exchange.problem else ""
        if self._metrics:
            path = (route.label or route.path) if route else "other"  # from a closed list
            self._metrics.observe_request(path, exchange.status, slug)
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


def _too_slow(timeout_s: float) -> Problem:
    limit = f"It must arrive within {timeout_s:g} s."
    return Problem(408, "body-too-slow", "The body took too long to arrive", limit)

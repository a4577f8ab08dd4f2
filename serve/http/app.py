"""App: the service's own routes as an ASGI app, and the switch between it and BentoML's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pkgutil import resolve_name

from starlette.datastructures import State
from starlette.responses import Response
from starlette.routing import BaseRoute, Router
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.exchange import exchange_of
from serve.http.problems import RequestError, problem_of_status
from serve.http.routes import BENTOML_PATHS, RouteTable, route_table
from serve.model.served_model import ServedModel
from serve.telemetry.metrics import Metrics

__all__ = ["App", "AsgiSwitch", "build_app"]


class App:
    """Routes, and what they share; a Starlette app without the layers for errors.

    Every error is the guard's, and those layers cost a twentieth of the CPU time around a response.

    Attributes:
        state: `model`, `metrics`, `leaving`, `routes`, and `reading`, which is held by who reads a
            large tensor.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self.state = State()
        self._router = Router(routes, default=Response(status_code=404))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["app"] = self  # `request.app`
        await self._router(scope, receive, send)


def build_app(
    model: ServedModel | None = None,
    metrics: Metrics | None = None,
    leaving: Callable[[], bool] = lambda: False,
    routes: RouteTable | None = None,
) -> App:
    """The app; runs behind `Guard`, which renders its errors.

    Args:
        model: what serves; `app.state.model` may be set later. Until then responses are 503.
        metrics: where stage times are counted; not at all when None.
        leaving: whether the process is about to end, and clients should go elsewhere.
        routes: whose handlers are imported now; `route_table()` when None.
    """
    table = routes or route_table()
    app = App(
        [
            StarletteRoute(row.path, resolve_name(row.handler), methods=list(row.methods))
            for row in table.routes
            if row.handler
        ]
    )
    app.state.routes = table
    app.state.model = model
    app.state.metrics = metrics
    app.state.leaving = leaving
    app.state.reading = asyncio.Lock()
    return app


class AsgiSwitch:
    """ASGI app, inside the guard: requests for our own paths, past the layers of BentoML.

    BentoML wraps every request in its metrics, its context, OpenTelemetry's middleware and a
    timeout, in a task of its own; that is more CPU time than the guard, the app and the log line
    together: 0.10 of 0.38 ms with 8 requests open, 0.15 of 0.49 ms with one (event loop alone,
    medians of 15 to 20 paired turns, on 2 busy CPU cores). Its probes and /metrics, and start and
    stop, stay with it.

    Args:
        app: ours; answers every path but BENTOML_PATHS.
        bentoml: BentoML's app; answers those, and is started and stopped.
        timeout_s: longest time for a response of ours; then it is cancelled, and 504.
    """

    def __init__(self, app: ASGIApp, bentoml: ASGIApp, *, timeout_s: float) -> None:
        self.bentoml = bentoml
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            RequestError: ours took too long.
        """
        if scope["type"] != "http" or scope["path"] in BENTOML_PATHS:
            await self.bentoml(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._app(scope, receive, send)
        except TimeoutError:
            if not exchange_of(scope).status:
                raise RequestError(problem_of_status(504)) from None

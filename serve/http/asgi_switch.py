"""Direct: requests for our own paths, past the layers that BentoML puts around a service.

BentoML wraps every request in its metrics, its context, OpenTelemetry's middleware and a timeout,
in a task of its own; that is more CPU time than the guard, the app and the log line together: 0.10
of 0.38 ms with 8 requests open, 0.15 of 0.49 ms with one (event loop alone, medians of 15 to 20
paired turns, on 2 busy CPU cores). Its probes and /metrics, and start and stop, stay with it.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.http.problems import RequestError, problem_of_status
from serve.http.response import exchange_of

__all__ = ["BENTOML_PATHS", "AsgiSwitch"]

BENTOML_PATHS = ("/livez", "/readyz", "/healthz", "/metrics")


class AsgiSwitch:
    """ASGI app, inside the guard, that chooses who answers.

    Args:
        app: ours; answers every path but BENTOML_PATHS.
        bentoml: BentoML's app; answers those, and is started and stopped.
        timeout_s: longest time for an answer of ours; then it is cancelled, and 504.
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

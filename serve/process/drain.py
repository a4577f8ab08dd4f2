"""Drain: how a worker ends without losing a request.

    SIGTERM -> not ready, still serving, for `grace_s` -> the HTTP server's own stop: no new
    connections, requests in flight are answered, for `drain_s` at most -> the process ends

Proxies learn from /readyz, and from `Connection: close` on every response, to go elsewhere before
the port closes. A second SIGTERM, or SIGINT, skips the grace. When the parent is gone nobody is
left to wait for: the grace is skipped too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Drain", "Leaving"]

logger = logging.getLogger(__name__)
CLOSE = (b"connection", b"close")


class Drain:
    """The way out of one worker process.

    Args:
        grace_s: time of being not ready and still serving.
        drain_s: time after that for requests in flight; then the process ends whatever is open.
        end: ends the process; `os._exit` unless a test says otherwise.
    """

    def __init__(
        self, *, grace_s: float, drain_s: float, end: Callable[[int], object] = os._exit
    ) -> None:
        self.draining = False
        self._grace_s = grace_s
        self._drain_s = drain_s
        self._end = end
        self._parent = os.getppid()

    def begin(self, stop: Callable[[], object], loop: asyncio.AbstractEventLoop) -> None:
        """Become not ready, and call `stop` in `loop` when the grace is over.

        The bound on the drain is a thread, so that it holds for a stuck event loop too.
        """
        if self.draining:
            stop()
            return
        self.draining = True
        grace_s = self._grace_s if os.getppid() == self._parent else 0.0
        watchdog = threading.Timer(grace_s + self._drain_s, self._cut)
        watchdog.daemon = True
        watchdog.start()
        loop.call_soon_threadsafe(loop.call_later, grace_s, stop)

    def take_sigterm(self) -> Callable[[], None]:
        """Put the grace before the handler of SIGTERM that the HTTP server has set.

        Call it in the main thread, in the running event loop.

        Returns:
            A function that puts the server's handler back.
        """
        loop = asyncio.get_running_loop()
        server = signal.getsignal(signal.SIGTERM)

        def stop() -> None:
            if callable(server):
                server(signal.SIGTERM, None)
            else:
                raise SystemExit(0)

        def handle(number: int, frame: FrameType | None) -> None:
            self.begin(stop, loop)

        signal.signal(signal.SIGTERM, handle)
        return lambda: _restore(handle, server)

    def _cut(self) -> None:
        logger.error(
            f"requests are still open {self._drain_s:g} s after the grace; they are cut. "
            "Raise STILLROOM_DRAIN_S if they were worth waiting for."
        )
        self._end(1)


class Leaving:
    """ASGI app that says `Connection: close` in every response once the drain has begun.

    Else a keep-alive connection lives until the server closes it, perhaps at the very moment at
    which the next request is on its way.

    Args:
        app: the service.
        drain: of this process.
    """

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._drain.draining:
                others = [item for item in message["headers"] if item[0].lower() != b"connection"]
                message = {**message, "headers": [*others, CLOSE]}
            await send(message)

        await self._app(scope, receive, closing)


def _restore(mine: Callable[..., object], previous: object) -> None:
    if signal.getsignal(signal.SIGTERM) is mine:
        signal.signal(signal.SIGTERM, previous)  # type: ignore[arg-type]  # as getsignal gave it

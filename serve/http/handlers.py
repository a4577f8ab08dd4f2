"""What every route that classifies shares: the model, the time left, errors, and leavers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.contract.errors import ImageError
from serve.http.admission import timeout_ms_of
from serve.http.exchange import exchange_of, fault_line
from serve.http.problems import (
    CLIENT_GONE,
    RequestError,
    problem_from,
    problem_of_status,
    without_frames,
)
from serve.model.batcher import InferenceResult
from serve.model.served_model import ServedModel

__all__ = ["budget_ms_of", "served_model", "wait_or_disconnect", "with_problems"]

Handler = Callable[[Request], Awaitable[Response]]


def with_problems(handler: Handler) -> ASGIApp:
    """A route whose errors become problems.

    Exceptions stop here: what surrounds the app would wait, or respond in its own words.
    """
    return _Route(handler)


class _Route:
    """An ASGI app: Starlette would put two functions more around a handler, for each request."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive, send)
        exchange = exchange_of(scope)
        try:
            response = await self._handler(request)
        except (ImageError, RequestError) as error:
            exchange.problem = problem_from(without_frames(error))
        except Exception as error:  # noqa: BLE001 - see `with_problems`
            exchange.problem = problem_of_status(500)
            exchange.fault = fault_line(error)
        if exchange.problem:
            response = Response(status_code=exchange.problem.status)
        await response(scope, receive, send)


def served_model(request: Request) -> ServedModel:
    """What serves.

    Raises:
        RequestError: nothing does, or it is not to be trusted.
    """
    model: ServedModel | None = request.app.state.model
    if model is None or not model.is_sound:
        raise RequestError(problem_of_status(503))
    return model


def budget_ms_of(request: Request, model: ServedModel) -> float:
    """Time that is left for the response, ms; counted from the first byte of the request.

    Raises:
        RequestError: the header that asks for less is malformed.
    """
    allowed_ms = timeout_ms_of(request.scope["headers"], model.deadline_ms)
    return allowed_ms - exchange_of(request.scope).elapsed_ms


async def wait_or_disconnect(
    request: Request, results: Sequence[asyncio.Future[InferenceResult]]
) -> list[InferenceResult | BaseException]:
    """Wait for the results; drop the work as soon as the client hangs up.

    Returns:
        A result or an error for each, in their order.

    Raises:
        RequestError: the client has gone.
    """
    gone = False

    async def drop_when_gone() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        for result in results:
            result.cancel()

    watcher = asyncio.create_task(drop_when_gone())
    try:
        found = await asyncio.gather(*results, return_exceptions=True)
    finally:
        watcher.cancel()
    if gone:
        raise RequestError(CLIENT_GONE)
    for one in found:
        if isinstance(one, asyncio.CancelledError):  # not the client: the server itself cancels
            raise one
    return found

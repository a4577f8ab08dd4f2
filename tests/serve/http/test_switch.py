from __future__ import annotations

import asyncio

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.app import AsgiSwitch
from serve.http.guard import Guard
from serve.http.routes import BENTOML_PATHS, route_table
from serve.telemetry.metrics import Metrics


async def theirs(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("bentoml")(scope, receive, send)


async def ours(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("ours")(scope, receive, send)


async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(30)


async def stuck_in_its_answer(scope: Scope, receive: Receive, send: Send) -> None:
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    await send(start)
    await asyncio.sleep(30)


def get(app: ASGIApp, path: str, timeout_s: float = 5.0, registry=None) -> httpx.Response:
    metrics = Metrics(registry or CollectorRegistry())
    guard = Guard(AsgiSwitch(app, theirs, timeout_s=timeout_s), metrics=metrics)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "path",
    [
        route.path
        for route in route_table().routes
        if "GET" in route.methods and "{" not in route.path
    ],
)
def test_bentoml_answers_its_own_paths_and_no_other(path: str) -> None:
    assert get(ours, path).text == ("bentoml" if path in BENTOML_PATHS else "ours")


def test_what_takes_too_long_is_504(is_problem) -> None:
    is_problem(get(stuck, "/v1/model", timeout_s=0.05), 504, "timeout")


def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    sent: list[str] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/v1/model", "headers": []}
    guard = Guard(AsgiSwitch(stuck_in_its_answer, theirs, timeout_s=0.05))
    asyncio.run(guard(scope, receive, send))
    assert sent == ["http.response.start"]


@pytest.mark.parametrize(("path", "count"), [("/v1/model", 1.0), ("/metrics", 0.0)])
def test_requests_in_flight_are_counted_while_they_are(path: str, count: float) -> None:
    registry = CollectorRegistry()
    seen: list[float | None] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(registry.get_sample_value("stillroom_requests_in_flight"))
        await ours(scope, receive, send)

    metrics = Metrics(registry)
    guard = Guard(AsgiSwitch(look, look, timeout_s=5), metrics=metrics)

    async def ask() -> None:
        transport = httpx.ASGITransport(app=guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get(path)

    asyncio.run(ask())
    assert seen == [count]
    assert registry.get_sample_value("stillroom_requests_in_flight") == 0

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from serve.http.app import build_app
from serve.http.guard import Guard, GuardLimits
from serve.model.served_model import ServedModel, open_served_model
from serve.settings import Settings
from serve.telemetry.drift import Drift
from serve.telemetry.metrics import Metrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, Drift)


@pytest.fixture
def served(tiny_artifact: Path, metrics: Metrics) -> Iterator[ServedModel]:
    with open_served_model(Settings(artifact=tiny_artifact, max_batch=4), metrics) as model:
        yield model


@pytest.fixture
def guarded(served: ServedModel, metrics: Metrics) -> Guard:
    """The whole service without BentoML and sockets."""
    app = build_app(served, metrics)
    limits = GuardLimits(max_body_bytes=200_000)
    return Guard(app, limits=limits, metrics=metrics, admit=served.admit)


@pytest.fixture
def open_client() -> Callable[[Any], httpx.AsyncClient]:
    """A function that gives an HTTP client of an ASGI app."""

    def client_of(app: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    return client_of


@pytest.fixture
def ask(guarded: Guard, open_client) -> Callable[..., httpx.Response]:
    """A function that sends one request through the guard: `ask("POST", path, content=...)`."""

    def request(method: str, path: str, **options) -> httpx.Response:
        async def one() -> httpx.Response:
            async with open_client(guarded) as client:
                return await client.request(method, path, **options)

        return asyncio.run(one())

    return request


@pytest.fixture
def is_problem() -> Callable[..., dict[str, Any]]:
    """A function that asserts an RFC 9457 answer and gives its members."""

    def check(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = response.json()
        assert list(problem) == ["type", "title", "status", "detail", "instance"]
        assert problem["type"] == f"urn:stillroom:problem:{slug}"
        assert problem["status"] == status
        assert problem["instance"] == response.headers["x-request-id"]
        for secret in ("/work", "/tmp", "Traceback", "Error(", ".py"):
            assert secret not in response.text
        return problem

    return check


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """A function that gives the request log so far."""
    lines: list[dict[str, Any]] = []

    def so_far() -> list[dict[str, Any]]:
        lines.extend(json.loads(line) for line in capsys.readouterr().out.splitlines())
        return lines

    return so_far

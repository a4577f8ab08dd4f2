from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from serve.app import build_app
from serve.guard import Guard, GuardLimits
from serve.metrics import Metrics
from serve.served_model import ServedModel, open_served_model
from serve.settings import Settings


@pytest.fixture
def served(tiny_artifact: Path) -> Iterator[ServedModel]:
    with open_served_model(Settings(artifact=tiny_artifact, max_batch=4)) as model:
        yield model


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def guarded(served: ServedModel, registry: CollectorRegistry) -> Guard:
    """The whole service without BentoML and sockets."""
    metrics = Metrics(registry)
    app = build_app(served, metrics)
    return Guard(app, limits=GuardLimits(max_body_bytes=200_000), metrics=metrics)


@pytest.fixture
def open_client() -> Callable[[Any], httpx.AsyncClient]:
    """A function that gives an HTTP client of an ASGI app."""

    def client_of(app: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    return client_of


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
def log_lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """A function that gives the request log so far."""
    caplog.set_level("INFO", logger="stillroom.requests")
    return lambda: [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "stillroom.requests"
    ]

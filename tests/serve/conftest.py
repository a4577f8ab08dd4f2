from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from serve import cuda_memory, tensorrt_runner
from serve.app import build_app
from serve.engine_library import EngineLibrary
from serve.guard import Guard, GuardLimits
from serve.metrics import Metrics
from serve.served_model import ServedModel, open_served_model
from serve.settings import Settings
from tests.serve.fake_tensorrt import FakeCuda, FakeTensorRT


@dataclass
class FakeMachine:
    """A machine with a GPU and TensorRT, both stand-ins; a test may replace either."""

    cuda: FakeCuda
    trt: FakeTensorRT

    def use(self, *, ahead_of_time: bool = False, version: str = "0.0.0", **gpu: Any) -> None:
        """Become another machine."""
        self.cuda = FakeCuda(**gpu)
        self.trt = FakeTensorRT(self.cuda, version=version, ahead_of_time=ahead_of_time)


@pytest.fixture
def fake_machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """TensorRT and CUDA that compute through ONNX Runtime: tests/serve/fake_tensorrt.py."""
    cuda = FakeCuda()
    machine = FakeMachine(cuda, FakeTensorRT(cuda))
    monkeypatch.setattr(cuda_memory, "_runtime", lambda: machine.cuda)
    monkeypatch.setattr(tensorrt_runner, "find_engine_library", lambda: EngineLibrary(machine.trt))
    return machine


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

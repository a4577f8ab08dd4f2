"""Spans of requests and stages, in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from serve.contract.errors import UsageError
from serve.telemetry.tracing import Traced, provider_from_env

JPEG = {"content-type": "image/jpeg"}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def ask(guarded, served, exporter: InMemorySpanExporter, open_client):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traced = Traced(guarded, provider.get_tracer("test"), lambda: served.identity)

    def request(method: str, path: str, **options):
        async def one():
            async with open_client(traced) as client:
                return await client.request(method, path, **options)

        return asyncio.run(one())

    return request


def test_a_request_is_a_span_with_its_stages(ask, exporter, served, jpeg: bytes) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {**JPEG, "traceparent": f"00-{trace}-{parent}-01", "x-request-id": "mine"}
    assert ask("POST", "/v1/classify", content=jpeg, headers=headers).status_code == 200
    *stages, span = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == trace
    assert f"{span.parent.span_id:016x}" == parent
    assert span.name == "POST /v1/classify"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["stillroom.request_id"] == "mine"
    assert span.attributes["stillroom.model.digest"] == served.artifact.digest
    assert [stage.name for stage in stages] == ["decode", "queue", "infer"]
    for stage in stages:
        assert stage.parent.span_id == span.context.span_id
        assert span.start_time <= stage.start_time <= stage.end_time <= span.end_time


def test_errors_have_their_status_and_strangers_paths_no_name(ask, exporter) -> None:
    ask("POST", "/v1/classify", content=b"none", headers=JPEG)
    ask("GET", "/wp-login.php?x=1")
    bad, unknown = exporter.get_finished_spans()
    assert (bad.name, bad.attributes["http.response.status_code"]) == ("POST /v1/classify", 415)
    assert bad.status.status_code is not StatusCode.ERROR  # the client's fault
    assert unknown.name == "GET"
    assert "http.route" not in unknown.attributes


def test_probes_are_no_spans(ask, exporter) -> None:
    ask("GET", "/livez")
    assert not exporter.get_finished_spans()


def test_a_broken_parent_begins_a_trace(ask, exporter, jpeg: bytes) -> None:
    ask("POST", "/v1/classify", content=jpeg, headers={**JPEG, "traceparent": "00-zz-1-1"})
    assert exporter.get_finished_spans()[-1].parent is None


def test_an_exporter_that_is_not_there_is_one_line() -> None:
    assert provider_from_env({"OTEL_TRACES_EXPORTER": "console"})
    with pytest.raises(UsageError, match="OTEL_TRACES_EXPORTER=zipkin: expected otlp or console"):
        provider_from_env({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UsageError, match="pip install opentelemetry-exporter-otlp-proto-http"):
        provider_from_env({})


def test_off_imports_nothing(tiny_artifact) -> None:
    script = "import sys, serve.service; print('serve.telemetry.tracing' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"

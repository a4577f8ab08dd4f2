"""Tracing: a span for each request and for its stages, by OpenTelemetry, where it is asked for.

STILLROOM_TRACING=1 turns it on. It stands outside the guard and reads the response's own headers
(X-Request-Id, Server-Timing), so nothing inside knows of it, and nothing is imported while it is
off. Where spans go is OpenTelemetry's to say: OTEL_EXPORTER_OTLP_ENDPOINT and its kin, or
OTEL_TRACES_EXPORTER=console.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.contract.errors import UsageError
from serve.http.routes import BENTOML_PATHS

__all__ = ["Traced", "provider_from_env", "traced"]

ORDER = ("decode", "queue", "infer")
SERVER_ERROR = 500


def provider_from_env(environ: Mapping[str, str] = os.environ) -> TracerProvider:
    """A provider whose spans go where OpenTelemetry's environment variables say.

    Raises:
        UsageError: the exporter is not installed, or is one that is not supported.
    """
    resource = Resource.create({"service.name": environ.get("OTEL_SERVICE_NAME", "stillroom")})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(_exporter(environ)))
    return provider


def _exporter(environ: Mapping[str, str]) -> SpanExporter:
    name = environ.get("OTEL_TRACES_EXPORTER", "otlp")
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        raise UsageError(f"OTEL_TRACES_EXPORTER={name}: expected otlp or console.")
    try:
        module = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ModuleNotFoundError as error:
        raise UsageError(
            "STILLROOM_TRACING=1 needs OpenTelemetry's exporter.",
            "pip install opentelemetry-exporter-otlp-proto-http, or unset STILLROOM_TRACING",
        ) from error
    exporter: SpanExporter = module.OTLPSpanExporter()
    return exporter


def traced(app: ASGIApp, identity: Callable[[], Mapping[str, str]]) -> Traced:
    """The guard with a span for each request, sent where the environment says.

    Raises:
        UsageError: as `provider_from_env`.
    """
    return Traced(app, provider_from_env().get_tracer("stillroom"), identity)


class Traced:
    """ASGI app around the guard.

    Args:
        app: the guard.
        tracer: makes the spans.
        identity: of the model that serves now: name, version, digest, backend.
    """

    def __init__(
        self, app: ASGIApp, tracer: Tracer, identity: Callable[[], Mapping[str, str]]
    ) -> None:
        self._app = app
        self._tracer = tracer
        self._identity = identity
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and note it; probes and scrapes are not noted."""
        if scope["type"] != "http" or scope["path"] in BENTOML_PATHS:
            await self._app(scope, receive, send)
            return
        span = self._tracer.start_span(
            scope["method"], context=self._parent(scope), kind=SpanKind.SERVER
        )

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(span, scope, message)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            span.end()

    def _parent(self, scope: Scope) -> Context:
        wanted = (b"traceparent", b"tracestate")
        carrier = {k.decode(): v.decode("latin-1") for k, v in scope["headers"] if k in wanted}
        return self._propagator.extract(carrier)

    def _note(self, span: Span, scope: Scope, message: Message) -> None:
        headers = {k.lower(): v.decode("latin-1") for k, v in message.get("headers", [])}
        status = message["status"]
        if status != 404:  # a path that is none of ours is a stranger's text
            span.update_name(f"{scope['method']} {scope['path']}")
            span.set_attribute("http.route", scope["path"])
        span.set_attribute("http.request.method", scope["method"])
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("stillroom.request_id", headers.get(b"x-request-id", ""))
        for key, value in self._identity().items():
            span.set_attribute(f"stillroom.model.{key}", value)
        if status >= SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        self._note_stages(span, _durations_ms(headers.get(b"server-timing", "")))

    def _note_stages(self, span: Span, durations_ms: Mapping[str, float]) -> None:
        """Their spans, one after the other up to now: the response follows inference at once."""
        end_ns = time.time_ns()
        known: Any = [(name, durations_ms[name]) for name in ORDER if name in durations_ms]
        start_ns = end_ns - round(sum(ms for _, ms in known) * 1e6)
        for name, duration_ms in known:
            context = set_span_in_context(span)
            stage = self._tracer.start_span(name, context=context, start_time=start_ns)
            start_ns += round(duration_ms * 1e6)
            stage.end(end_time=start_ns)


def _durations_ms(server_timing: str) -> dict[str, float]:
    found = {}
    for entry in server_timing.split(", "):
        name, _, value = entry.partition(";dur=")
        if value:
            found[name] = float(value)
    return found

"""The OpenAPI 3.1 document of the service, made of its route table."""

from __future__ import annotations

from functools import cache
from pkgutil import resolve_name
from typing import Any

from serve.http.problems import MEDIA_TYPE
from serve.http.routes import Route, RouteTable
from serve.http.upload import FIELDS, MAX_FILES

__all__ = ["batch_operation", "classify_operation", "core_schemas", "openapi_document"]

JSON = dict[str, Any]
FILE: JSON = {"type": "string", "contentMediaType": "application/octet-stream"}


@cache
def openapi_document(table: RouteTable) -> JSON:
    """The document of a table's routes; it names no host."""
    paths: dict[str, JSON] = {}
    for route in table.routes:
        if route.summary:
            paths.setdefault(route.path, {})[route.methods[0].lower()] = _operation(route)
    schemas: JSON = {}
    for group in table.groups:
        schemas |= resolve_name(group.schemas)() if group.schemas else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stillroom",
            "version": "1",
            "description": "Image classification. Errors are RFC 9457 problems.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(route: Route) -> JSON:
    if route.operation:
        operation: JSON = resolve_name(route.operation)(route)
        return operation
    if route.schema:
        return {"summary": route.summary, "responses": _responses(route.schema)}
    return {"summary": route.summary, "responses": {"200": {"description": "Yes"}}}


def classify_operation(route: Route) -> JSON:
    """Of POST /v1/classify."""
    binary = {"schema": {"type": "string", "contentMediaType": "image/jpeg"}}
    return {
        "operationId": "classify",
        "summary": route.summary,
        "parameters": [_top_k(), _timeout()],
        "requestBody": {
            "required": True,
            "content": {
                **dict.fromkeys(
                    ("image/jpeg", "image/png", "image/webp", "application/octet-stream"), binary
                ),
                "multipart/form-data": {"schema": _form(FILE, "oneOf")},
            },
        },
        "responses": _responses("Answer"),
    }


def batch_operation(route: Route) -> JSON:
    """Of POST /v1/classify/batch."""
    files = {"type": "array", "items": FILE, "maxItems": MAX_FILES}
    return {
        "operationId": "classifyBatch",
        "summary": route.summary,
        "parameters": [_top_k(), _timeout()],
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": _form(files, "anyOf")}},
        },
        "responses": _responses("BatchAnswer"),
    }


def _responses(schema: str) -> JSON:
    return {
        "200": {
            "description": "The result",
            "content": {"application/json": {"schema": _ref(schema)}},
        },
        "default": {
            "description": "What is wrong, and what helps",
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        },
    }


def _top_k() -> JSON:
    schema = {"type": "integer", "minimum": 1, "default": 5}
    words = "Predictions an image; above the number of labels, all of them"
    return {"name": "top_k", "in": "query", "schema": schema, "description": words}


def _timeout() -> JSON:
    return {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "schema": {"type": "integer", "minimum": 1},
        "description": "Time in which a response is of use",
    }


def _form(files: JSON, combined: str) -> JSON:
    return {
        "type": "object",
        "properties": dict.fromkeys(FIELDS, files),
        combined: [{"required": [name]} for name in FIELDS],
    }


def _ref(name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"}


def core_schemas() -> JSON:
    """What the core's rows name."""
    text, number = {"type": "string"}, {"type": "number", "minimum": 0, "maximum": 1}
    prediction = _object({"label": text, "probability": number})
    predictions = {"type": "array", "items": _ref("Prediction")}
    return {
        "Prediction": prediction,
        "Identity": _object({"name": text, "version": text, "digest": text, "backend": text}),
        "Answer": _object({"predictions": predictions, "model": _ref("Identity")}),
        "BatchAnswer": _object(
            {
                "results": {
                    "type": "array",
                    "items": {
                        "oneOf": [
                            _object({"predictions": predictions}),
                            _object({"problem": _ref("Problem")}),
                        ]
                    },
                },
                "model": _ref("Identity"),
            }
        ),
        "Model": {"type": "object", "required": ["name", "version", "digest", "labels", "backend"]},
        "Problem": _object(
            {
                "type": text,
                "title": text,
                "status": {"type": "integer"},
                "detail": text,
                "instance": text,
            }
        ),
    }


def _object(properties: JSON) -> JSON:
    return {"type": "object", "properties": properties, "required": list(properties)}

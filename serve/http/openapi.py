"""GET /openapi.json: OpenAPI 3.1 of the service's own routes."""

from __future__ import annotations

from functools import cache
from typing import Any

from serve.http.problems import MEDIA_TYPE
from serve.http.upload import FIELDS, MAX_FILES

__all__ = ["openapi_document"]

JSON = dict[str, Any]
FILE: JSON = {"type": "string", "contentMediaType": "application/octet-stream"}


@cache
def openapi_document() -> JSON:
    """The document; it names no host."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stillroom",
            "version": "1",
            "description": "Image classification. Errors are RFC 9457 problems.",
        },
        "paths": {
            "/v1/classify": {"post": _classify()},
            "/v1/classify/batch": {"post": _batch()},
            "/v1/model": {"get": _get("What is served, and where it came from", "Model")},
            "/livez": {"get": _probe("The process lives")},
            "/readyz": {"get": _probe("The service answers")},
            "/healthz": {"get": _probe("As /livez")},
            "/metrics": {"get": _probe("Prometheus metrics")},
            "/openapi.json": {"get": _probe("This document")},
            "/v2": {"get": _probe("The Open Inference Protocol: the server")},
            "/v2/health/live": {"get": _probe("As /livez")},
            "/v2/health/ready": {"get": _probe("As /readyz")},
            **_of_model("/v2/models/{name}"),
            **_of_model("/v2/models/{name}/versions/{version}"),
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _classify() -> JSON:
    binary = {"schema": {"type": "string", "contentMediaType": "image/jpeg"}}
    return {
        "operationId": "classify",
        "summary": "Classify one image",
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


def _batch() -> JSON:
    files = {"type": "array", "items": FILE, "maxItems": MAX_FILES}
    return {
        "operationId": "classifyBatch",
        "summary": "Classify several images, each with its own answer or problem",
        "parameters": [_top_k(), _timeout()],
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": _form(files, "anyOf")}},
        },
        "responses": _responses("BatchAnswer"),
    }


def _get(summary: str, schema: str) -> JSON:
    return {"summary": summary, "responses": _responses(schema)}


def _probe(summary: str) -> JSON:
    return {"summary": summary, "responses": {"200": {"description": "Yes"}}}


def _of_model(path: str) -> JSON:
    infer = _v2(path, "Tensors or image files in, logits out")
    content = {"application/json": {"schema": _ref("Inference")}, "application/octet-stream": {}}
    infer["requestBody"] = {"required": True, "content": content}
    return {
        path: {"get": _v2(path, "The model's tensors")},
        f"{path}/ready": {"get": _v2(path, "The model answers")},
        f"{path}/infer": {"post": infer},
    }


def _v2(path: str, summary: str) -> JSON:
    names = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("name", "version")
        if f"{{{name}}}" in path
    ]
    failed = {
        "description": "What is wrong",
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"error": {"type": "string"}}}
            }
        },
    }
    ok = {"description": "As the Open Inference Protocol, version 2, says"}
    return {"summary": summary, "parameters": names, "responses": {"200": ok, "default": failed}}


def _responses(schema: str) -> JSON:
    return {
        "200": {
            "description": "The answer",
            "content": {"application/json": {"schema": _ref(schema)}},
        },
        "default": {
            "description": "What is wrong, and what helps",
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        },
    }


def _top_k() -> JSON:
    schema = {"type": "integer", "minimum": 1, "default": 5}
    words = "Answers an image; above the number of labels, all of them"
    return {"name": "top_k", "in": "query", "schema": schema, "description": words}


def _timeout() -> JSON:
    return {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "schema": {"type": "integer", "minimum": 1},
        "description": "Time in which an answer is of use",
    }


def _form(files: JSON, combined: str) -> JSON:
    return {
        "type": "object",
        "properties": dict.fromkeys(FIELDS, files),
        combined: [{"required": [name]} for name in FIELDS],
    }


def _ref(name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> JSON:
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
        "Inference": {
            "type": "object",
            "required": ["inputs"],
            "properties": {"id": text, "inputs": {"type": "array", "items": {"type": "object"}}},
        },
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

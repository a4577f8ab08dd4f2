"""The rows of the Open Inference Protocol, version 2: clients of KServe and Triton work."""

from __future__ import annotations

import json
from typing import Any

from serve.http.problems import Problem
from serve.http.routes import Route, RouteGroup

__all__ = ["OIP_V2", "error_body", "infer_operation", "operation", "schemas"]

JSON = dict[str, Any]
HANDLERS = "serve.http.oip_v2.handlers"
PARTS = {"version": r"[\w.-]{1,64}"}


def error_body(problem: Problem) -> tuple[bytes, str]:
    """A problem as the protocol says it: body and media type."""
    text = f"{problem.title}. {problem.detail}".strip()
    document = {"error": f"{problem.slug}: {text}"}
    return json.dumps(document, ensure_ascii=False).encode(), "application/json"


def operation(route: Route) -> JSON:
    """OpenAPI of a route that names the model."""
    names = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("name", "version")
        if f"{{{name}}}" in route.path
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
    responses = {"200": ok, "default": failed}
    return {"summary": route.summary, "parameters": names, "responses": responses}


def infer_operation(route: Route) -> JSON:
    """OpenAPI of an inference."""
    schema = {"$ref": "#/components/schemas/Inference"}
    content = {"application/json": {"schema": schema}, "application/octet-stream": {}}
    return {**operation(route), "requestBody": {"required": True, "content": content}}


def schemas() -> JSON:
    """What the rows name."""
    inputs = {"type": "array", "items": {"type": "object"}}
    return {
        "Inference": {
            "type": "object",
            "required": ["inputs"],
            "properties": {"id": {"type": "string"}, "inputs": inputs},
        }
    }


def _of_model(path: str) -> tuple[Route, ...]:
    return tuple(
        Route(
            path + end,
            (method,),
            f"{HANDLERS}:{handler}",
            summary,
            operation=f"{__name__}:{document}",
            parts=PARTS,
            label=f"/v2/models{end}",
        )
        for end, method, handler, summary, document in (
            ("", "GET", "model_metadata", "The model's tensors", "operation"),
            ("/ready", "GET", "model_ready", "The model is ready", "operation"),
            ("/infer", "POST", "infer", "Tensors or image files in, logits out", "infer_operation"),
        )
    )


OIP_V2 = RouteGroup(
    (
        Route("/v2", ("GET",), f"{HANDLERS}:server", "The Open Inference Protocol: the server"),
        Route("/v2/health/live", ("GET",), f"{HANDLERS}:live", "As /livez", needs_token=False),
        Route("/v2/health/ready", ("GET",), f"{HANDLERS}:ready", "As /readyz", needs_token=False),
        *_of_model("/v2/models/{name}"),
        *_of_model("/v2/models/{name}/versions/{version}"),
    ),
    prefix="/v2",
    error_body=error_body,
    schemas=f"{__name__}:schemas",
)

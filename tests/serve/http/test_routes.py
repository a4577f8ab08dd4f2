"""The route table: a row is all that a route needs to be served, guarded and described."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from serve.http.app import build_app
from serve.http.guard import Guard
from serve.http.openapi import openapi_document
from serve.http.routes import CORE, Route, RouteGroup, RouteTable, route_table

HANDLER = """
from starlette.responses import JSONResponse

from serve.http.handlers import served_model, with_problems


@with_problems
async def label(request):
    labels = served_model(request).artifact.labels
    return JSONResponse({"label": labels[int(request.path_params["index"])]})
"""
ROW = Route(
    "/v1/labels/{index}",
    ("GET",),
    "handler_of_labels:label",
    "One class name",
    schema="Label",
    parts={"index": "[0-9]{1,3}"},
    label="/v1/labels",
)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RouteTable:
    (tmp_path / "handler_of_labels.py").write_text(HANDLER)
    monkeypatch.syspath_prepend(tmp_path)
    return RouteTable([CORE, RouteGroup((ROW,))])


def test_a_new_row_is_served_guarded_and_described(
    table: RouteTable, served, metrics, registry, open_client, is_problem
) -> None:
    app = build_app(served, routes=table)
    guard = Guard(app, token=b"secret", routes=table, metrics=metrics)

    async def ask() -> list[httpx.Response]:
        async with open_client(guard) as client:
            key = {"authorization": "Bearer secret"}
            return [
                await client.get("/v1/labels/1", headers=key),
                await client.get("/v1/labels/1"),
                await client.post("/v1/labels/1", headers=key),
                await client.get("/v1/labels/x", headers=key),
            ]

    found, unauthorized, wrong_method, unknown = asyncio.run(ask())
    assert found.json() == {"label": served.artifact.labels[1]}
    is_problem(unauthorized, 401, "unauthorized")
    assert "Allowed here: GET." in is_problem(wrong_method, 405, "method-not-allowed")["detail"]
    is_problem(unknown, 404, "not-found")
    counted = {"path": "/v1/labels", "status": "200"}
    assert registry.get_sample_value("stillroom_requests_total", counted) == 1
    operation = openapi_document(table)["paths"]["/v1/labels/{index}"]["get"]
    assert operation["summary"] == "One class name"
    assert "Label" in str(operation["responses"]["200"])


def test_without_the_open_inference_protocol_its_paths_do_not_exist(
    served, open_client, is_problem
) -> None:
    table = route_table(oip=False)
    guard = Guard(build_app(served, routes=table), routes=table)

    async def ask() -> httpx.Response:
        async with open_client(guard) as client:
            return await client.get("/v2")

    is_problem(asyncio.run(ask()), 404, "not-found")
    assert not [path for path in openapi_document(table)["paths"] if path.startswith("/v2")]


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/v2/models/tiny", "/v2/models"),
        ("/v2/models/tiny/versions/3f/infer", "/v2/models/infer"),
        ("/v2/models/tiny/ready", "/v2/models/ready"),
        (f"/v2/models/{'x' * 129}", None),
        (f"/v2/models/x/versions/{'1' * 65}", None),
        ("/v2/models/a/b", None),
        ("/v2/models/", None),
        ("/v1/model/", None),
        ("/v1/modelx", None),
    ],
)
def test_a_path_is_found_whole_or_not_at_all(path: str, label: str | None) -> None:
    row = route_table().find(path)
    assert (row.label if row else None) == label


def test_two_rows_of_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="/v1/model: expected one row a path"):
        RouteTable([CORE, RouteGroup((Route("/v1/model", ("GET",)),))])

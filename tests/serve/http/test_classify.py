"""Several images in one request."""

from __future__ import annotations

import asyncio

import pytest

from serve.http.openapi import openapi_document
from serve.http.routes import route_table


def form(*blobs: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", ("x", blob)) for blob in blobs]


def test_each_image_has_its_own_answer_or_problem(
    ask, served, jpeg: bytes, make_picture, encode
) -> None:
    other = encode(make_picture(9), "PNG")
    answer = ask("POST", "/v1/classify/batch?top_k=2", files=form(jpeg, jpeg[:200], b"", other))
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"]["digest"] == served.artifact.digest
    first, cut, empty, last = body["results"]
    alone = [
        ask("POST", "/v1/classify?top_k=2", content=data, headers={"content-type": "image/jpeg"})
        for data in (jpeg, other)
    ]
    for batched, single in zip((first, last), alone, strict=True):
        together, by_itself = batched["predictions"], single.json()["predictions"]
        assert [p["label"] for p in together] == [p["label"] for p in by_itself]
        assert [p["probability"] for p in together] == pytest.approx(
            [p["probability"] for p in by_itself], abs=1e-6
        )
    assert cut["problem"]["type"].endswith(":truncated-image")
    assert empty["problem"]["type"].endswith(":empty-body")
    assert cut["problem"]["instance"] == answer.headers["x-request-id"]


def test_top_k_is_capped_here_too(ask, is_problem, jpeg: bytes) -> None:
    body = ask("POST", "/v1/classify/batch?top_k=99", files=form(jpeg)).json()
    assert len(body["results"][0]["predictions"]) == 4
    none = ask("POST", "/v1/classify/batch?top_k=0", files=form(jpeg))
    is_problem(none, 400, "invalid-top-k")


def test_files_of_both_names_are_answered_in_the_order_of_the_form(
    ask, jpeg: bytes, make_picture, encode
) -> None:
    other = encode(make_picture(9), "PNG")
    files = [("file", ("x", other)), ("image", ("x", jpeg)), ("file", ("x", b"no"))]
    results = ask("POST", "/v1/classify/batch", files=files).json()["results"]
    wanted = ask("POST", "/v1/classify/batch", files=form(other, jpeg)).json()["results"]
    best = [[one["predictions"][0]["label"] for one in found] for found in (results[:2], wanted)]
    assert best[0] == best[1]
    assert results[2]["problem"]["type"].endswith(":unsupported-image")


def test_problems_of_images_are_counted(ask, metrics, jpeg: bytes) -> None:
    ask("POST", "/v1/classify/batch", files=form(jpeg, jpeg[:200], jpeg[:300], b""))
    count = {
        slug: metrics.problems.labels(slug)._value.get()
        for slug in ("truncated-image", "empty-body", "overloaded")
    }
    assert count == {"truncated-image": 2, "empty-body": 1, "overloaded": 0}


@pytest.mark.parametrize(
    ("files", "status", "slug"),
    [([], 415, "unsupported-media-type"), ([("photo", ("x", b"1"))], 400, "missing-image")],
)
def test_a_form_without_images(ask, is_problem, files, status: int, slug: str) -> None:
    is_problem(ask("POST", "/v1/classify/batch", files=files), status, slug)


def test_too_many_images(ask, is_problem, jpeg: bytes) -> None:
    problem = is_problem(
        ask("POST", "/v1/classify/batch", files=form(*[b"x"] * 33)), 400, "too-many-images"
    )
    assert "At most 32" in problem["detail"]


def test_where_not_all_find_a_place_none_is_answered(
    guarded, open_client, served, is_problem, jpeg: bytes
) -> None:
    async def test() -> None:
        async with open_client(guarded) as client:
            served.batcher._max_queue = 2
            full = await client.post("/v1/classify/batch", files=form(jpeg, jpeg, jpeg))
            is_problem(full, 503, "overloaded")
            while served.batcher.open_requests:
                await asyncio.sleep(0.01)
            one = await client.post("/v1/classify/batch", files=form(jpeg))
            assert one.status_code == 200

    asyncio.run(asyncio.wait_for(test(), 20))


def test_the_description_names_every_route_and_no_host(ask) -> None:
    document = ask("GET", "/openapi.json").json()
    assert document == openapi_document(route_table())
    described = set(document["paths"])
    assert described == {route.path for route in route_table().routes} - {"/"}
    text = str(document)
    assert "http://" not in text
    assert "https://" not in text
    references = {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert "200" in operation["responses"]


def test_answers_fit_their_description(ask, jpeg: bytes) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    document = openapi_document(route_table())

    def check(value: object, name: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(value, schema)

    check(ask("POST", "/v1/classify/batch", files=form(jpeg, b"x")).json(), "BatchAnswer")
    headers = {"content-type": "image/jpeg"}
    check(ask("POST", "/v1/classify", content=jpeg, headers=headers).json(), "Answer")
    check(ask("POST", "/v1/classify", content=b"", headers=headers).json(), "Problem")
    check(ask("GET", "/v1/model").json(), "Model")

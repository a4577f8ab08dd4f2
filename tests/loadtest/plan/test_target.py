from __future__ import annotations

import json
from email.parser import BytesParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import UsageError
from loadtest.plan.target import STILLROOM, Target, headers_from_texts, value_at
from tests.loadtest.hand_made import IMAGES, MODEL

BODY = json.dumps(
    {"predictions": [{"label": "roses", "probability": 0.9}], "model": MODEL._asdict()}
).encode()


def test_ours_by_default() -> None:
    body, headers = STILLROOM.request_of(IMAGES[0])
    assert (body, headers) == (IMAGES[0].body, {"Content-Type": "image/png"})
    answer = STILLROOM.prediction_of(BODY)
    assert answer is not None
    assert (answer.label, answer.model) == ("roses", MODEL)


@pytest.mark.parametrize("data", [b"", b"\r\n--\r\n", bytes(range(256))])
def test_a_form_that_a_parser_reads_back(data: bytes) -> None:
    image = IMAGES[0].__class__("a.png", data, "image/png")
    body, headers = Target(field="file").request_of(image)
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    (part,) = BytesParser().parsebytes(head + body).get_payload()
    assert not isinstance(part, str)
    assert part.get_param("name", header="content-disposition") == "file"
    assert part.get_content_type() == "image/png"
    assert data in body


def test_further_headers_are_sent() -> None:
    target = Target(headers=headers_from_texts(["Authorization: Bearer x", "X-Key:1"]))
    assert target.request_of(IMAGES[0])[1] == {
        "Content-Type": "image/png",
        "Authorization": "Bearer x",
        "X-Key": "1",
    }


@pytest.mark.parametrize(
    ("pointer", "document", "label"),
    [
        ("/label", {"label": "roses"}, "roses"),
        ("/0/class", [{"class": 3}], "3"),
        ("/a~1b/~0", {"a/b": {"~": "x"}}, "x"),
        ("/missing", {"label": "roses"}, None),
        ("/5", ["a"], None),
        ("/-1", ["a"], None),
        ("/label", {"label": {"deep": 1}}, None),
        ("/label", {"label": True}, None),
        ("/label/0", {"label": "roses"}, None),
    ],
)
def test_the_label_is_where_the_pointer_says(
    pointer: str, document: Any, label: str | None
) -> None:
    answer = Target(route="/predict", answer=pointer).prediction_of(json.dumps(document).encode())
    assert (answer.label if answer else None) == label


@given(st.binary(max_size=30))
def test_other_bodies_hold_no_answer(body: bytes) -> None:
    assert Target(route="/predict", answer="/a/b").prediction_of(body) is None


def test_no_pointer_takes_any_reply() -> None:
    answer = Target(answer="").prediction_of(b"<html>")
    assert answer is not None
    assert (answer.label, answer.model) == ("", None)


def test_a_pointer_into_nothing() -> None:
    assert value_at({"a": 1}, "") == {"a": 1}
    with pytest.raises(LookupError):
        value_at({"a": [1]}, "/a/01")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"route": "predict"}, "--route 'predict' is not a path; write it as --route /v1/classify"),
        ({"field": 'a"b'}, "is not a plain field name; write it as --field image"),
        ({"answer": "label"}, "is not a JSON pointer; write it as --answer /predictions/0/label"),
    ],
)
def test_errors(fields: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Target(**fields)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_header_errors_do_not_repeat_a_secret() -> None:
    for text in ("secret", "Authorization secret", "X-Key: a\r\nEvil: secret"):
        with pytest.raises(UsageError) as caught:
            headers_from_texts([text])
        assert "is not NAME: VALUE; write it as --header" in str(caught.value)
        assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="Content-Type is set by the load test"):
        headers_from_texts(["Content-Type: text/plain"])

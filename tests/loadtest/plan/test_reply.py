from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.plan.reply import (
    NO_STAGES,
    ReplyModel,
    Stages,
    prediction_from_body,
    stages_from_header,
)

MODEL = {"name": "m", "version": "2", "digest": "d", "backend": "onnxruntime-cpu"}


def body(**changes: Any) -> bytes:
    document = {"predictions": [{"label": "roses", "probability": 0.9}], "model": MODEL}
    return json.dumps(document | changes).encode()


def test_answer() -> None:
    answer = prediction_from_body(body())
    assert answer is not None
    assert answer.label == "roses"
    assert answer.model == ReplyModel("m", "2", "d", "onnxruntime-cpu")


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"\xff",
        body(predictions=[]),
        body(predictions=[{"label": 3}]),
        body(predictions=None),
        body(model={"name": "m"}),
        body(model=None),
    ],
)
def test_anything_else_is_no_answer(other: bytes) -> None:
    assert prediction_from_body(other) is None


@given(st.binary(max_size=60))
def test_no_body_raises(other: bytes) -> None:
    assert prediction_from_body(other) is None


def test_stages() -> None:
    header = 'decode;dur=1.2, queue;desc="a";dur=0.4, infer; DUR="7", total;dur=9, other;dur=1'
    assert stages_from_header(header) == Stages(1.2, 0.4, 7.0, 9.0)


@pytest.mark.parametrize("header", [None, "", "decode", "decode;dur=x", "decode;dur=-1", ";;,,="])
def test_malformed_stages_are_passed_over(header: str | None) -> None:
    assert stages_from_header(header) == NO_STAGES


@given(st.text(max_size=60))
def test_no_header_raises(header: str) -> None:
    stages_from_header(header)

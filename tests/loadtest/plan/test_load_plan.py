from __future__ import annotations

from typing import Any

import pytest

from loadtest.errors import UsageError
from loadtest.plan.load_plan import LoadPlan, base_url_from_text

URL = "http://127.0.0.1:3000"


@pytest.mark.parametrize(
    ("text", "base"),
    [
        (URL, URL),
        (URL + "/", URL),
        ("https://example.org/roses/", "https://example.org/roses"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_base_url(text: str, base: str) -> None:
    assert base_url_from_text(text) == base


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("127.0.0.1:3000", "is not an http address; give one such as http://127.0.0.1:3000"),
        ("ftp://host", "is not an http address"),
        ("http://", "is not an http address"),
        ("http://host:port", "is malformed"),
        ("http://host?x=1", "has a query"),
        (URL + "/v1/classify", f"names the route; give {URL}"),
    ],
)
def test_url_errors(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        base_url_from_text(text)
    assert message in str(caught.value)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        base_url_from_text("http://me:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a rate or users"),
        ({"rate": 1.0, "users": 1}, "either a rate or users"),
        ({"rate": 0.0}, "--rate 0 is not above 0; try --rate 10"),
        ({"rate": float("nan")}, "--rate nan is not above 0"),
        ({"rate": float("inf")}, "--rate inf is not above 0"),
        ({"rate": 1e6}, "more than 2000000; lower --rate"),
        ({"users": 0}, "--users 0 is not from 1 to 900"),
        ({"users": 901}, "--users 901 is not from 1 to 900"),
        ({"users": 1, "duration_s": 0.0}, "--duration-s 0 is not above 0"),
        ({"users": 1, "warmup_s": -1.0}, "--warmup-s -1 is below 0"),
    ],
)
def test_plan_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        LoadPlan(url=URL, **arguments)
    assert message in str(caught.value)


def test_titles() -> None:
    assert LoadPlan(url=URL, rate=2.5, duration_s=3).title == (
        "open loop, 2.5 requests/s for 3 s after 2 s of warm-up"
    )
    assert LoadPlan(url=URL, users=1, warmup_s=0).title == "closed loop, 1 user for 30 s"

"""The client against services that are busy, cut off, or go on refusing."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest

from serve import client
from serve.contract.errors import ServiceError

GOOD = {"predictions": [], "model": {}}
BUSY = httpx.Response(503, headers={"retry-after": "2"}, json={"detail": "Too many requests."})


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def asked(*answers: httpx.Response | Exception) -> tuple[Callable[[], dict], list[bytes]]:
    """A way to classify against a service that gives these answers, and what it was sent."""
    left, sent = list(answers), []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request.read())
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    transport = httpx.Client(transport=httpx.MockTransport(handle))
    return lambda: client.classify("http://test", b"photo", client=transport), sent


def test_a_busy_service_is_asked_again_when_it_says_so(waits: list[float]) -> None:
    ask, sent = asked(BUSY, BUSY, httpx.Response(200, json=GOOD))
    assert ask() == GOOD
    assert waits == [2, 2]
    assert sent == [b"photo"] * 3


def test_one_that_stays_busy_is_given_up(waits: list[float]) -> None:
    ask, sent = asked(*[BUSY] * client.TRIES)
    with pytest.raises(ServiceError, match="answered 503: Too many requests"):
        ask()
    assert (len(sent), len(waits)) == (client.TRIES, client.TRIES - 1)


def test_nobody_waits_for_ever(waits: list[float]) -> None:
    late = httpx.Response(503, headers={"retry-after": "86400"})
    ask, _ = asked(late, httpx.Response(200, json=GOOD))
    assert ask() == GOOD
    assert waits == [client.LONGEST_WAIT_S]


@pytest.mark.parametrize("headers", [{}, {"retry-after": "Tue, 24 Nov 2026 00:00:00 GMT"}])
def test_what_does_not_ask_for_another_try_gets_none(
    waits: list[float], headers: dict[str, str]
) -> None:
    ask, sent = asked(httpx.Response(503, headers=headers, json={"detail": "No."}))
    with pytest.raises(ServiceError, match="503"):
        ask()
    assert (len(sent), waits) == (1, [])


def test_a_connection_that_is_cut_is_tried_again() -> None:
    cut = httpx.RemoteProtocolError("Server disconnected without sending a response.")
    ask, sent = asked(cut, httpx.ReadError(""), httpx.Response(200, json=GOOD))
    assert ask() == GOOD
    assert len(sent) == 3
    ask, _ = asked(*[cut] * client.TRIES)
    with pytest.raises(ServiceError, match="No response from http://test"):
        ask()


def test_nobody_there_is_said_at_once() -> None:
    ask, sent = asked(httpx.ConnectError("refused"))
    with pytest.raises(ServiceError, match="ConnectError"):
        ask()
    assert len(sent) == 1

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from serve.http.admission import overloaded
from serve.http.guard import Guard, GuardLimits
from serve.http.problems import RequestError

LIMITS = GuardLimits(
    max_body_bytes=1000, body_timeout_s=0.2, max_held_bytes=lambda: 1500, linger_s=0.2
)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive()).get("body", b"")
    await PlainTextResponse(str(len(body)), headers={"server": "Loud/1.0"})(scope, receive, send)


def request(path: str = "/v1/classify", method: str = "POST", **headers: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
    }


class Wire:
    """The server's side of one exchange: `chunks` arrive, then the client waits or leaves."""

    def __init__(self, *chunks: bytes, end: bool = True, leave: bool = False) -> None:
        last = len(chunks) - 1
        self.arriving: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": not (end and i == last)}
            for i, chunk in enumerate(chunks)
        ]
        if leave:
            self.arriving.append({"type": "http.disconnect"})
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if self.arriving:
            return self.arriving.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode().lower(): v.decode() for k, v in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def ask(scope: dict[str, Any], wire: Wire, app: Any = echo, **options: Any) -> Wire:
    guard = Guard(app, limits=LIMITS, **options)
    asyncio.run(asyncio.wait_for(guard(scope, wire.receive, wire.send), 10))
    assert guard._held_bytes == 0
    return wire


def slug(wire: Wire) -> str:
    assert wire.headers["content-type"] == "application/problem+json"
    return wire.body.split(b"urn:stillroom:problem:")[1].split(b'"')[0].decode()


def test_a_body_in_pieces_arrives_whole() -> None:
    wire = ask(request(), Wire(b"a" * 400, b"b" * 400, b"c" * 200))
    assert (wire.status, wire.body) == (200, b"1000")
    assert "server" not in wire.headers
    assert wire.headers["x-request-id"]


@pytest.mark.parametrize("headers", [{}, {"content_length": "5"}, {"transfer_encoding": "chunked"}])
def test_a_body_over_the_limit_is_refused_while_it_arrives(headers: dict[str, str]) -> None:
    wire = ask(request(**headers), Wire(*[b"x" * 300] * 40))
    assert (wire.status, slug(wire)) == (413, "too-many-bytes")
    assert wire.headers["connection"] == "close"
    assert not wire.arriving  # what was still coming has been discarded
    answer = wire.sent[1]
    assert int(wire.headers["content-length"]) == len(answer["body"])  # complete before discarding


def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    wire = ask(request(content_length="99999999999"), Wire(leave=True))
    assert (wire.status, slug(wire)) == (413, "too-many-bytes")


def test_a_slow_body_is_refused_after_the_deadline() -> None:
    wire = ask(request(), Wire(b"a", end=False))
    assert (wire.status, slug(wire)) == (408, "body-too-slow")


def test_a_client_that_leaves_while_sending_is_only_logged(log_lines) -> None:
    wire = ask(request(), Wire(b"a", end=False, leave=True))
    assert not wire.sent
    assert [(line["status"], line["error"]) for line in log_lines()] == [(499, "client-gone")]


def full(headers: Any) -> None:
    raise RequestError(overloaded(3000))


def test_a_request_without_room_is_refused_though_its_body_has_not_come() -> None:
    wire = ask(request(), Wire(b"a", end=False), admit=full)
    assert (wire.status, slug(wire)) == (503, "overloaded")
    assert (wire.headers["retry-after"], wire.headers["connection"]) == ("3", "close")


def test_a_request_without_room_whose_body_has_come_keeps_its_connection() -> None:
    wire = ask(request(), Wire(b"a" * 400, b"b" * 400), admit=full)
    assert (wire.status, slug(wire)) == (503, "overloaded")
    assert "connection" not in wire.headers


def test_only_what_is_sent_to_be_classified_needs_room() -> None:
    assert ask(request("/v1/model", "GET"), Wire(b""), admit=full).status == 200


def test_bodies_of_all_requests_together_are_bounded(log_lines) -> None:
    guard = Guard(echo, limits=LIMITS)
    wires = [Wire(b"a" * 900, end=False), Wire(b"b" * 900, end=False)]

    async def both() -> None:
        await asyncio.gather(*(guard(request(), wire.receive, wire.send) for wire in wires))

    asyncio.run(asyncio.wait_for(both(), 15))
    assert sorted(slug(wire) for wire in wires) == ["body-too-slow", "overloaded"]
    assert guard._held_bytes == 0


def test_bodies_that_wait_for_each_other_are_counted_whole() -> None:
    class Slow(Wire):
        async def receive(self) -> dict[str, Any]:
            await asyncio.sleep(0.01)  # others count meanwhile
            return await super().receive()

    wires = [Slow(b"x" * 300, b"x" * 300, b"x" * 300) for _ in range(3)]
    guard = Guard(echo, limits=LIMITS)

    async def all_of_them() -> None:
        await asyncio.gather(*(guard(request(), wire.receive, wire.send) for wire in wires))

    asyncio.run(asyncio.wait_for(all_of_them(), 15))
    assert sorted(wire.status for wire in wires) == [200, 200, 503]
    assert guard._held_bytes == 0


@pytest.mark.parametrize(
    ("headers", "status", "name"),
    [
        ({"content_length": "5", "transfer_encoding": "chunked"}, 400, "ambiguous-length"),
        ({"content_encoding": "gzip"}, 415, "unsupported-encoding"),
        ({"content_encoding": "br, gzip"}, 415, "unsupported-encoding"),
    ],
)
def test_headers_that_are_refused(headers: dict[str, str], status: int, name: str) -> None:
    wire = ask(request(**headers), Wire(b"hello", leave=True))
    assert (wire.status, slug(wire)) == (status, name)


@pytest.mark.parametrize(
    "path",
    [
        "/docs.json", "/schema.json", "/static_content/x", "/../", "//", "/v1/classify/",
        "/V1/model",
        "/v1/classify\0", "/favicon.ico", "/v1//classify", "http://other/livez", "*", "",
    ],
)  # fmt: skip
def test_other_paths_do_not_exist(path: str) -> None:
    wire = ask(request(path, "GET"), Wire(leave=True))
    assert (wire.status, slug(wire)) == (404, "not-found")


def test_large_headers() -> None:
    wire = ask(request("/", "GET", cookie="a" * 20_000), Wire(leave=True))
    assert (wire.status, slug(wire)) == (431, "headers-too-large")


def test_a_long_path() -> None:
    wire = ask(request("/" + "a" * 60_000, "GET"), Wire(leave=True))
    assert (wire.status, slug(wire)) == (414, "path-too-long")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/classify", "POST"),
        ("DELETE", "/livez", "GET, HEAD"),
        ("BREW", "/", "GET, HEAD"),
        ("OPTIONS", "/v1/classify", "POST"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
def test_other_methods_are_named(method: str, path: str, allow: str) -> None:
    wire = ask(request(path, method), Wire(b"x"))
    assert (wire.status, slug(wire)) == (405, "method-not-allowed")
    assert wire.headers["allow"] == allow


@pytest.mark.parametrize(
    ("status", "name"),
    [(400, "bad-request"), (404, "not-found"), (418, "bad-request"), (429, "too-many-requests"),
     (500, "internal-error"), (503, "not-ready"), (504, "timeout")],
)  # fmt: skip
def test_error_answers_of_others_are_rewritten(status: int, name: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer = JSONResponse({"error": "/secret/path"}, status_code=status)
        await answer(scope, receive, send)

    wire = ask(request("/livez", "GET"), Wire(), app)
    assert (wire.status, slug(wire)) == (status, name)
    assert b"secret" not in wire.body
    assert ("retry-after" in wire.headers) == (status in (429, 503))


def test_an_exception_is_a_500_and_one_line(log_lines) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("secret")

    wire = ask(request("/livez", "GET"), Wire(), app)
    assert (wire.status, slug(wire)) == (500, "internal-error")
    assert b"secret" not in wire.body
    [line] = log_lines()
    assert line["fault"].startswith("KeyError: 'secret' at test_guard.py:")


def test_an_exception_after_the_answer_began_does_not_leave(log_lines) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("late")

    assert ask(request("/livez", "GET"), Wire(), app).status == 200
    assert log_lines()[0]["fault"].startswith("ValueError: late")


def test_an_app_that_does_not_answer_is_a_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert ask(request("/livez", "GET"), Wire(), app).status == 500


def test_websockets_are_closed_and_lifespan_passes() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    wire = Wire()
    for kind in ("websocket", "lifespan"):
        asyncio.run(Guard(app)({"type": kind}, wire.receive, wire.send))
    assert seen == ["lifespan"]
    assert wire.sent == [{"type": "websocket.close", "code": 1008}]


def test_the_log_line_is_whole(log_lines) -> None:
    ask(request("/" + "é\n" * 300, "GET", x_request_id="abc"), Wire())
    [line] = log_lines()
    assert list(line) == ["time", "method", "path", "status", "ms", "id", "error"]
    assert line["id"] == "abc"
    assert len(line["path"]) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": "Basic secret"},
        {"authorization": "secret"},
    ],
)
def test_without_the_token_probes_and_the_page_alone_are_answered(
    headers: dict[str, str],
) -> None:
    guard = Guard(echo, limits=LIMITS, token=b"secret")
    for path, method in (("/v1/classify", "POST"), ("/metrics", "GET"), ("/v1/model", "GET")):
        wire = Wire(b"body")
        asyncio.run(guard(request(path, method, **headers), wire.receive, wire.send))
        start = wire.sent[0]
        assert start["status"] == 401
        assert (b"www-authenticate", b'Bearer realm="stillroom"') in start["headers"]
        assert b"secret" not in b"".join(m.get("body", b"") for m in wire.sent)
    for path in ("/readyz", "/"):
        wire = Wire(b"")
        asyncio.run(guard(request(path, "GET", **headers), wire.receive, wire.send))
        assert wire.sent[0]["status"] == 200


@pytest.mark.parametrize("kind", ["Bearer", "bearer"])
def test_with_the_token_all_is_as_ever(kind: str) -> None:
    guard = Guard(echo, limits=LIMITS, token=b"secret")
    wire = Wire(b"body")
    scope = request(authorization=f"{kind} secret")
    asyncio.run(guard(scope, wire.receive, wire.send))
    assert wire.sent[0]["status"] == 200


def test_two_authorizations_are_none() -> None:
    guard = Guard(echo, limits=LIMITS, token=b"secret")
    scope = request(authorization="Bearer secret")
    scope["headers"].append((b"authorization", b"Bearer secret"))
    wire = Wire(b"body")
    asyncio.run(guard(scope, wire.receive, wire.send))
    assert wire.sent[0]["status"] == 401

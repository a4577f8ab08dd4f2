"""What strangers send, and what the service must answer: one list for the test and for the table.

python -m tests.serve.attack_cases > docs/attacks.md
"""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import re
import signal
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import numpy as np
from PIL import Image

__all__ = ["ATTACKS", "TOKEN", "Attack", "Target", "table"]

TOKEN = "a-token-for-tests"
TIMEOUT_S = 4  # of headers, and of bodies
LONG_TIMEOUT_S = 20  # of bodies: 280 MiB are sent before the first is cut, on a busy machine too
UNMOVED_S = 0.5
IMAGE = {"content-type": "image/jpeg"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
DRIBBLERS = 200
HALF_SENT = 28  # of 10 MiB each: above what is held together


@dataclass(frozen=True)
class Target:
    """A live service, and one that wants a token.

    Args:
        url: of the first; headers and bodies must arrive within TIMEOUT_S.
        guarded: of the second; wants TOKEN; bodies must arrive within LONG_TIMEOUT_S.
        jpeg: a good image.
        workers: gives the pids of the first service's worker processes.
    """

    url: str
    guarded: str
    jpeg: bytes
    workers: Callable[[], Sequence[int]]

    def post(self, data: object, headers: dict[str, str], **options: object) -> httpx.Response:
        """POST /v1/classify."""
        return httpx.post(
            f"{self.url}/v1/classify",
            content=data,  # type: ignore[arg-type]
            headers=headers,
            timeout=20,
            **options,  # type: ignore[arg-type]
        )

    def works(self) -> None:
        """A good image gets its answer, soon."""
        assert self.times_s(1)[0] < 2

    def times_s(self, requests: int) -> list[float]:
        """What good images wait for their predictions, one after the other."""
        found = []
        with httpx.Client(timeout=20) as client:
            for _ in range(requests):
                start = time.monotonic()
                answer = client.post(f"{self.url}/v1/classify", content=self.jpeg, headers=IMAGE)
                found.append(time.monotonic() - start)
                assert answer.status_code == 200
        return found


@dataclass(frozen=True)
class Attack:
    """One case.

    Args:
        name: what is sent.
        answer: what must come back, for the table.
        run: sends it and asserts.
    """

    name: str
    answer: str
    run: Callable[[Target], None]


def refused(answer: httpx.Response, status: int, *slugs: str) -> None:
    """An RFC 9457 answer that tells nothing of the inside."""
    assert answer.status_code == status, answer.text[:200]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].rpartition(":")[2] in slugs, answer.text[:200]
    assert not re.search(r"Traceback|Error\(|\.py|/tmp/|/home/", answer.text)


def png_claiming(width: int, height: int) -> bytes:
    """A valid header, and next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def form_of(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def part_of(name: str, data: bytes, *, file: bool = True, extra: bytes = b"") -> bytes:
    kind = b'; filename="x"' if file else b""
    return b'Content-Disposition: form-data; name="%b"%b\r\n%b\r\n%b' % (
        name.encode(),
        kind,
        extra,
        data,
    )


def random_bytes(to: Target) -> None:
    for size in (1, 100, 10_000):
        data = np.random.default_rng(size).bytes(size)
        refused(to.post(data, IMAGE), 415, "unsupported-image")
        refused(
            to.post(b"\xff\xd8\xff\xe0" + data, IMAGE), 422, "undecodable-image", "truncated-image"
        )


def empty(to: Target) -> None:
    refused(to.post(b"", IMAGE), 400, "empty-body")
    refused(to.post(form_of(part_of("image", b"")), FORM), 400, "empty-body")


def truncated(to: Target) -> None:
    for share in (0.5, 0.9, 0.99):
        refused(to.post(to.jpeg[: int(len(to.jpeg) * share)], IMAGE), 422, "truncated-image")
    for share in (0.01, 0.1):
        answer = to.post(to.jpeg[: max(1, int(len(to.jpeg) * share))], IMAGE)
        assert answer.status_code in (415, 422)


def huge_claim(to: Target) -> None:
    start = time.monotonic()
    refused(to.post(png_claiming(60_000, 60_000), IMAGE), 413, "too-many-pixels")
    assert time.monotonic() - start < 1


def bomb(to: Target) -> None:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    refused(to.post(buffer.getvalue(), IMAGE), 413, "too-many-pixels")


def other_formats(to: Target) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    for data in (svg, b"<html></html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"II*\0" + b"\0" * 100):
        refused(to.post(data, IMAGE), 415, "unsupported-image")
    refused(to.post(to.jpeg, {"content-type": "text/html"}), 415, "unsupported-media-type")
    for lie in ("image/png", "image/svg+xml", "image/eps"):
        assert to.post(to.jpeg, {"content-type": lie}).status_code == 200


def wrong_field(to: Target) -> None:
    refused(to.post(form_of(part_of("photo", to.jpeg)), FORM), 400, "missing-image")
    refused(to.post(form_of(part_of("image", b"x", file=False)), FORM), 400, "missing-image")
    for other in ("image", "file"):
        twice = form_of(part_of("image", to.jpeg), part_of(other, to.jpeg))
        refused(to.post(twice, FORM), 400, "missing-image")


def broken_multipart(to: Target) -> None:
    data = form_of(part_of("image", to.jpeg))
    bad = "malformed-multipart"
    refused(to.post(data, {"content-type": "multipart/form-data"}), 400, bad)
    refused(to.post(data[5:], FORM), 400, bad, "missing-image")
    refused(to.post(b"--b\r\nnonsense", FORM), 400, bad, "missing-image")


def swollen_multipart(to: Target) -> None:
    bad = ("malformed-multipart", "missing-image")
    refused(to.post(form_of(*[part_of("x", b"1", file=False)] * 1001), FORM), 400, *bad)
    refused(to.post(form_of(part_of("image", b"x" * 2**21, file=False)), FORM), 400, *bad)
    long_header = part_of("image", to.jpeg, extra=b"X-A: " + b"a" * 10_000 + b"\r\n")
    assert to.post(form_of(long_header), FORM).status_code in (200, 400)
    to.works()


def large_bodies(to: Target) -> None:
    block = b"\xff\xd8\xff" + b"x" * (2**20 - 3)
    refused(to.post(block * 64, IMAGE), 413, "too-many-bytes")
    refused(to.post((block for _ in range(64)), IMAGE), 413, "too-many-bytes")
    for coding in ("gzip", "br", "deflate, gzip"):
        packed = gzip.compress(b"\0" * 2**24)
        refused(to.post(packed, {**IMAGE, "content-encoding": coding}), 415, "unsupported-encoding")


def slow_clients(to: Target) -> None:
    """Half of them dribble a body, half headers; the good ones wait no longer than before."""
    parts = httpx.URL(to.url)
    head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    alone_s = max(to.times_s(30))
    with ExitStack() as open_wires:
        wires = []
        for number in range(DRIBBLERS):
            wire = socket.create_connection((parts.host, parts.port), timeout=20)
            open_wires.callback(wire.close)
            wire.sendall(head + (b"X-" if number % 2 else b"Content-Length: 5000\r\n\r\n\xff"))
            wires.append(wire)
        for _ in range(3):
            for wire in wires:
                wire.sendall(b"a")
            beside_s = max(to.times_s(10))
            assert beside_s < alone_s + UNMOVED_S, (alone_s, beside_s)
            time.sleep(0.1)
        for wire, slug in zip(wires, DRIBBLERS // 2 * (b"body", b"headers"), strict=True):
            answer = received(wire)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"urn:stillroom:problem:%b-too-slow" % slug in answer


def half_sent(to: Target) -> None:
    """Bodies that stop short of their end, more than are held together: then others must wait."""
    parts = httpx.URL(to.guarded)
    size = 10 * 2**20 - 1
    head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    head += b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (TOKEN.encode(), size)
    wanted = {**IMAGE, "authorization": f"Bearer {TOKEN}"}

    def post_large() -> httpx.Response:
        return httpx.post(
            f"{to.guarded}/v1/classify", content=b"\xff" * size, headers=wanted, timeout=20
        )

    with ExitStack() as open_wires:
        for _ in range(HALF_SENT):
            wire = socket.create_connection((parts.host, parts.port), timeout=20)
            open_wires.callback(wire.close)
            wire.sendall(head + b"\xff" * (size - 100))
        deadline = time.monotonic() + 20  # until the service has read what the kernel holds
        while (answer := post_large()).status_code == 415:
            assert time.monotonic() < deadline
        refused(answer, 503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert httpx.get(f"{to.guarded}/livez").status_code == 200
        deadline = time.monotonic() + LONG_TIMEOUT_S + 1
        while (answer := post_large()).status_code == 503:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        refused(answer, 415, "unsupported-image")


def fetching(to: Target) -> None:
    """A listener of our own counts who comes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.jpg".encode()
        for text in (url, b"file:///etc/passwd"):
            assert to.post(text, IMAGE).status_code == 415
            answer = to.post(form_of(part_of("image", text, file=False)), FORM)
            refused(answer, 400, "missing-image")
            assert to.post(text, {"content-type": "text/plain"}).status_code == 415
        try:
            listener.accept()
        except TimeoutError:
            return
        raise AssertionError("the service fetched a URL")


def pickles(to: Target) -> None:
    for kind in ("application/vnd.bentoml+pickle", "Application/VND.BentoML+Pickle"):
        refused(to.post(b"cos\nsystem\n", {"content-type": kind}), 415, "unsupported-media-type")


def json_bodies(to: Target) -> None:
    kind = {"content-type": "application/json"}
    name = httpx.get(f"{to.url}/v1/model").json()["name"]
    lists = b'{"inputs":[' + b"[]," * 10**6 + b"[]]}"
    for data in (b"[" * 100_000, b'"\xff"', b"NaN", b'{"a":1,"a":2}', b"9" * 10**6, lists):
        refused(to.post(data, kind), 415, "unsupported-media-type")
        answer = httpx.post(f"{to.url}/v2/models/{name}/infer", content=data, timeout=20)
        assert answer.status_code == 400
        assert list(answer.json()) == ["error"]


def raw(to: Target, data: bytes) -> bytes:
    """The bytes that come back for these bytes."""
    parts = httpx.URL(to.url)
    with socket.create_connection((parts.host, parts.port), timeout=20) as wire:
        wire.sendall(data)
        return received(wire)


def received(wire: socket.socket) -> bytes:
    """All bytes until the service closes."""
    answer = b""
    while piece := wire.recv(65536):
        answer += piece
    return answer


def raw_refused(answer: bytes, status: bytes) -> None:
    """As `refused`, for bytes; `status` is a pattern."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1.1 " + status, head), head[:200]
    assert b"application/problem+json" in head
    assert b"server:" not in head.lower()
    assert b"urn:stillroom:problem:" in body


def two_lengths(to: Target) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    answer = raw(to, head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    raw_refused(answer, b"400 ")


def message_rules(to: Target) -> None:
    """All cases of tests/serve/http/test_message.py in a few; the connection ends after each."""
    body = b"\r\n0\r\n\r\n"
    get, post = b"GET /livez HTTP/1.1\r\n", b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n"
    for data in (get, get + b"Host: x\r\nHost: x\r\n", get + b"Host: a b\r\n", b"GET /livez\r\n"):
        raw_refused(raw(to, data + b"\r\n"), b"400 ")
    for coding in (b"chunked, gzip", b"chunked, chunked", b"gzip"):
        raw_refused(raw(to, post + b"Transfer-Encoding: " + coding + b"\r\n" + body), b"400 ")
    raw_refused(raw(to, post + b"Transfer-Encoding: gzip, chunked\r\n" + body), b"501 ")


def paths(to: Target) -> None:
    close = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for path in (
        b"/../../etc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"//etc/passwd",
        b"/v1/model%00",
    ):
        raw_refused(raw(to, b"GET " + path + close), b"404 ")
    raw_refused(raw(to, b"GET /" + b"a" * 4000 + close), b"414 ")
    raw_refused(raw(to, b"GET /" + b"a" * 64_000 + close), b"4(00|14) ")
    raw_refused(raw(to, b"BREW /v1/classify" + close), b"40[05] ")
    refused(httpx.get(f"{to.url}/docs.json"), 404, "not-found")
    refused(httpx.delete(f"{to.url}/v1/model"), 405, "method-not-allowed")


def large_headers(to: Target) -> None:
    answer = httpx.get(f"{to.url}/v1/model", headers={"x-a": "a" * 40_000})
    refused(answer, 431, "headers-too-large")
    head = b"GET /v1/model HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: "
    raw_refused(raw(to, head + b"a" * 100_000 + b"\r\n\r\n"), b"4(00|31) ")


def tokens(to: Target) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
        for path in ("/v1/model", "/metrics", "/openapi.json"):
            answer = httpx.get(f"{to.guarded}{path}", headers=headers)
            refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert httpx.get(f"{to.guarded}/readyz", headers=headers).status_code == 200
    right = {"authorization": f"Bearer {TOKEN}"}
    answer = httpx.get(f"{to.guarded}/v1/model", headers=right)
    assert answer.status_code == 200
    assert TOKEN not in answer.text


def too_many(to: Target) -> None:
    """Far more at once than the queue holds."""

    async def flood() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=300)
        async with httpx.AsyncClient(timeout=30, limits=limits) as client:
            one = (
                client.post(f"{to.url}/v1/classify", content=to.jpeg, headers=IMAGE)
                for _ in range(300)
            )
            return await asyncio.gather(*one)

    answers = asyncio.run(flood())
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert any(answer.status_code == 200 for answer in answers)
    for answer in answers:
        if answer.status_code == 503:
            refused(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
    to.works()


def scan_bomb(to: Target) -> None:
    """A progressive JPEG that asks for three thousand passes over 12 megapixels."""
    buffer = io.BytesIO()
    Image.new("L", (4000, 3000), 100).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    start = time.monotonic()
    refused(to.post(data[:-2] + scan * 3000 + b"\xff\xd9", IMAGE), 422, "undecodable-image")
    assert time.monotonic() - start < 2


def trailers(to: Target) -> None:
    """A chunked body whose trailers do not end: the connection does."""
    parts = httpx.URL(to.url)
    head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((parts.host, parts.port), timeout=20) as wire:
        wire.sendall(head + b"1\r\nx\r\n0\r\nX-A: ")
        try:
            for _ in range(32):
                wire.sendall(b"a" * 2**20)
        except ConnectionError:
            return
    raise AssertionError("the service took them all")


def slow_form(to: Target) -> None:
    """Parts of a boundary over and over, which a parser reads a byte at a time: others go on."""
    data = form_of(part_of("image", b"\r\n--ba" * (10 * 2**20 // 6 - 1000)))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(to.post, data, FORM)
        slowest_s, asked = 0.0, 0
        while not answer.done():
            start = time.monotonic()
            assert httpx.get(f"{to.url}/livez", timeout=20).status_code == 200
            slowest_s, asked = max(slowest_s, time.monotonic() - start), asked + 1
        refused(answer.result(), 415, "unsupported-image")
    assert slowest_s < 1, (slowest_s, asked)


def leavers(to: Target) -> None:
    """They hang up before their answer; no slot may stay taken."""
    parts = httpx.URL(to.url)
    head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(to.jpeg)
    for _ in range(300):
        with socket.create_connection((parts.host, parts.port), timeout=20) as wire:
            wire.sendall(head + to.jpeg)
    time.sleep(0.5)
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: to.post(to.jpeg, IMAGE), range(64)))
    assert {answer.status_code for answer in answers} == {200}


def poison(to: Target) -> None:
    half = to.jpeg[: len(to.jpeg) // 2]
    bodies = [half if number % 4 == 0 else to.jpeg for number in range(48)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda body: to.post(body, IMAGE), bodies))
    assert [answer.status_code for answer in answers] == [
        422 if number % 4 == 0 else 200 for number in range(48)
    ]


def unusual_images(to: Target) -> None:
    rgb = Image.new("RGB", (40, 30), (200, 30, 90))

    def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    deep = Image.fromarray(np.full((30, 40), 40_000, np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (
        encoded(deep, "PNG"),
        encoded(rgb.convert("RGBA"), "PNG"),
        encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(rgb, "JPEG", exif=exif),
    ):
        assert to.post(data, IMAGE).status_code == 200
    frames = [Image.new("RGB", (40, 30), (level, 0, 0)) for level in (0, 250)]
    moving = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    refused(to.post(moving, IMAGE), 415, "unsupported-image")


def killed_worker(to: Target) -> None:
    pids = to.workers()
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            if to.post(to.jpeg, IMAGE).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError("no worker came back")


ATTACKS = (
    Attack("random bytes, with and without a JPEG's first bytes", "415, 422", random_bytes),
    Attack("an empty body, an empty file", "400 `empty-body`", empty),
    Attack(
        "a JPEG cut at 1, 10, 50, 90, 99 %",
        "422 `truncated-image` (415 where no header is left)",
        truncated,
    ),
    Attack(
        "a PNG that claims 60 000 x 60 000", "413 `too-many-pixels`, nothing decoded", huge_claim
    ),
    Attack("a small PNG of 81 megapixels", "413 `too-many-pixels`", bomb),
    Attack(
        "SVG, HTML, EPS, TIFF; a JPEG labelled otherwise",
        "415; the content counts, not the label",
        other_formats,
    ),
    Attack(
        "another field, a text field, two images in a form (`image` and `file` too)",
        "400 `missing-image`",
        wrong_field,
    ),
    Attack("a form without boundary, broken forms", "400 `malformed-multipart`", broken_multipart),
    Attack(
        "1 001 parts, 2 MiB of text, 10 kB of a part's headers", "400, in memory", swollen_multipart
    ),
    Attack(
        "64 MiB with and without Content-Length; compressed bodies",
        "413 `too-many-bytes`; 415",
        large_bodies,
    ),
    Attack(
        f"{DRIBBLERS} clients that dribble headers or bodies",
        "408 `headers-too-slow`, `body-too-slow`; the good ones notice nothing, as long as the "
        "bodies hold less than 256 MiB (see 27)",
        slow_clients,
    ),
    Attack("a URL or a path in the place of a file", "400, 415; nobody is called", fetching),
    Attack("pickles, in any letter case", "415 `unsupported-media-type`", pickles),
    Attack(
        "JSON: 100 000 brackets, broken UTF-8, NaN, a 1 MB number, a million lists",
        "415, unread; 400 from `/v2`",
        json_bodies,
    ),
    Attack("Transfer-Encoding and Content-Length", "400; the connection is closed", two_lengths),
    Attack(
        "`..`, `%2e`, `//`, NUL, 64 kB of path, other methods, BentoML's own pages",
        "404, 405, 414",
        paths,
    ),
    Attack("40 kB and 100 kB of headers", "431 `headers-too-large`, or 400", large_headers),
    Attack(
        "no token, a wrong one, where one is set", "401 `unauthorized`; probes are answered", tokens
    ),
    Attack("300 requests at once", "200, or 503 `overloaded` with Retry-After", too_many),
    Attack("300 clients that hang up", "all slots come back", leavers),
    Attack("damaged images among good ones", "422 for those alone", poison),
    Attack(
        "16 bits, alpha, CMYK, EXIF rotation; an animation",
        "200 as in training; 415",
        unusual_images,
    ),
    Attack("a JPEG of 3 000 scans", "422 `undecodable-image`, nothing decoded", scan_bomb),
    Attack("trailers without end", "the connection is closed", trailers),
    Attack(
        "10 MiB of a form that is slow to read", "415; probes are answered meanwhile", slow_form
    ),
    Attack(
        "no Host, two, a wrong one; HTTP/0.9; `chunked` not last, twice, or after another coding",
        "400, and 501 for the coding; the connection is closed",
        message_rules,
    ),
    Attack(
        "28 bodies of 10 MiB that stop short of their end: more than the 256 MiB held together",
        "503 `overloaded` to every body that finds no room, until these are cut after "
        "`STILLROOM_BODY_TIMEOUT_S`; probes are answered",
        half_sent,
    ),
    Attack("the worker killed", "another one answers", killed_worker),
)

ELSEWHERE = (
    (
        "NaN from the model",
        "500 `invalid-model-output`; not ready after three in a row",
        "http/test_admission.py",
    ),
    (
        "one changed byte in the artifact, a wrong number of labels",
        "it does not start",
        "contract/test_artifact.py, test_live_server.py",
    ),
)


def table() -> str:
    """docs/attacks.md."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# What strangers may send"
    yield ""
    yield "Each line is sent to a real `bentoml serve` process by"
    yield '`uv run pytest -m "" tests/serve/http/test_attack_cases.py`, but for the last two, with'
    yield "tests of their own."
    yield ""
    yield "| | sent | answered |"
    yield "|---|---|---|"
    for number, attack in enumerate(ATTACKS, 1):
        yield f"| {number} | {attack.name} | {attack.answer} |"
    for number, (name, answer, where) in enumerate(ELSEWHERE, len(ATTACKS) + 1):
        yield f"| {number} | {name} | {answer} (tests/serve/{where}) |"
    yield ""


if __name__ == "__main__":
    print(table(), end="")

"""A classification service of known behaviour, and the command run against it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROBE = 0


def png(shade: int) -> bytes:
    """A grey PNG of one pixel; the shade makes its bytes distinct."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, shade]))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_corpus(folder: Path, *, expected: str | None = "roses", images: int = 4) -> Path:
    lines = ["path,label,expected"]
    for number in range(images):
        (folder / f"{number}.png").write_bytes(png(number))
        lines.append(f"{number}.png,tulips,{expected or ''}")
    corpus = folder / "corpus.csv"
    corpus.write_text("\n".join(lines) + "\n")
    return corpus


@dataclass
class Behaviour:
    """What the stub does with its n-th request; the probe is number 0."""

    delay_s: float = 0.0
    label_of: Callable[[int], str] = lambda number: "roses"
    status_of: Callable[[int], int] = lambda number: 200
    drops: Callable[[int], bool] = lambda number: False
    hangs: Callable[[int], bool] = lambda number: False
    digest_of: Callable[[int], str] = lambda number: "d1"
    body: bytes | None = None
    route: str = "/v1/classify"
    key: str = ""
    cached_s: float | None = None
    frozen_from_s: float = float("inf")
    frozen_for_s: float = 0.0
    frozen_every_s: float = float("inf")
    content_types: set[str] = field(default_factory=set)
    bodies: set[bytes] = field(default_factory=set)
    served: int = 0
    first_s: float | None = None
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_number(self) -> int:
        with self.lock:
            number = self.served
            self.served += 1
            if number > PROBE and self.first_s is None:
                self.first_s = time.monotonic()
            return number

    def freeze(self) -> None:
        """Every request that arrives in the frozen time is answered at its end."""
        if self.first_s is None:
            return
        into_s = (time.monotonic() - self.first_s) % self.frozen_every_s - self.frozen_from_s
        if 0 <= into_s < self.frozen_for_s:
            time.sleep(self.frozen_for_s - into_s)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    behaviour: Behaviour

    def do_POST(self) -> None:
        behaviour = self.behaviour
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != behaviour.route:
            self._reply(404, b"{}", 0)
            return
        if behaviour.key and self.headers["X-Key"] != behaviour.key:
            self._reply(401, b"{}", 0)
            return
        number = behaviour.next_number()
        behaviour.content_types.add(self.headers["Content-Type"])
        behaviour.freeze()
        if behaviour.hangs(number):
            behaviour.released.wait(30)
        if behaviour.hangs(number) or behaviour.drops(number):
            self.close_connection = True
            return
        known = body in behaviour.bodies
        behaviour.bodies.add(body)
        cached = known and behaviour.cached_s is not None
        time.sleep((behaviour.cached_s or 0.0) if cached else behaviour.delay_s)
        self._reply(behaviour.status_of(number), self._answer(number), number)

    def _answer(self, number: int) -> bytes:
        if self.behaviour.body is not None:
            return self.behaviour.body
        model = {"name": "stub", "version": "1", "backend": "none"}
        model["digest"] = self.behaviour.digest_of(number)
        predictions = [{"label": self.behaviour.label_of(number), "probability": 0.9}]
        return json.dumps({"predictions": predictions, "model": model}).encode()

    def _reply(self, status: int, body: bytes, number: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Request-Id", f"r{number}")
        self.send_header("Server-Timing", "decode;dur=1.5, infer;dur=2.5, total;dur=4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is not news."""


@contextmanager
def served(behaviour: Behaviour) -> Iterator[str]:
    """The address of a running stub."""
    handler = type("BoundHandler", (Handler,), {"behaviour": behaviour})
    server = QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        behaviour.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "loadtest", *map(str, arguments)]


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def run_script(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python statements in a process of their own: Locust must not patch pytest's."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

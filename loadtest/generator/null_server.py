"""A server that does nothing, to find out what the generator itself manages.

    python -m loadtest.generator.null_server [--delay-ms 20] [--freeze]

It reads each request to its end and answers 200 with a fixed classification, as fast as asyncio
goes, in a process of its own; it prints its port and ends with its standard input. With a delay it
is a service of known latency; frozen, it also stands still for the last second of every five.
"""

from __future__ import annotations

import argparse
import asyncio
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadtest.errors import LoadTestError
from loadtest.generator.affinity import pin_tree, split_cores

__all__ = ["running_null_server"]

BODY = (
    b'{"predictions":[{"label":"nothing","probability":1.0}],'
    b'"model":{"name":"null","version":"0","digest":"none","backend":"none"}}'
)
REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(BODY)).encode()
    + b"\r\n\r\n"
    + BODY
)
LENGTH = b"content-length:"
FREEZE_S, FREEZE_EVERY_S = 1.0, 5.0


class NullProtocol(asyncio.Protocol):
    """Counts bytes to the end of each request; looks at nothing but their number."""

    def __init__(self, delay_s: float, *, freezes: bool) -> None:
        self._delay_s, self._freezes = delay_s, freezes
        self._head, self._left = b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request whose last byte is in."""
        while data:
            if self._left:
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
            else:
                head, separator, rest = (self._head + data).partition(b"\r\n\r\n")
                if not separator:
                    self._head = head
                    return
                self._head, data = b"", rest
                self._left = _length(head)
            if not self._left:
                self._answer()

    def _answer(self) -> None:
        loop = asyncio.get_running_loop()
        frozen_s = FREEZE_EVERY_S - loop.time() % FREEZE_EVERY_S if self._freezes else FREEZE_S + 1
        wait_s = self._delay_s + (frozen_s if frozen_s <= FREEZE_S else 0.0)
        if wait_s:
            loop.call_later(wait_s, self._write)
        else:
            self._write()

    def _write(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(REPLY)


@contextmanager
def running_null_server(
    *, delay_ms: float = 0.0, freezes: bool = False, pinned: bool = True
) -> Iterator[str]:
    """Run one while the block lasts, on cores that the generator does not use if there are any.

    Yields:
        Its base URL.

    Raises:
        LoadTestError: it did not start.
    """
    command = [
        sys.executable,
        "-m",
        "loadtest.generator.null_server",
        "--delay-ms",
        f"{delay_ms:g}",
    ]
    child = subprocess.Popen(
        [*command, *(["--freeze"] if freezes else [])],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        port = child.stdout.readline().decode().strip()
        if not port:
            raise LoadTestError("the empty server did not start", "run the command again")
        if pinned and (cores := split_cores().service):
            pin_tree(child.pid, cores)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stdin.close()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(LENGTH):
            return int(line[len(LENGTH) :])
    return 0


async def _serve(delay_s: float, *, freezes: bool) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: NullProtocol(delay_s, freezes=freezes), "127.0.0.1", 0, backlog=1024
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)  # the parent is gone, or wants the end
    await ended.wait()
    server.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.generator.null_server")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="before each reply")
    parser.add_argument("--freeze", action="store_true", help="1 s in every 5")
    options = parser.parse_args(arguments)
    delay_s = options.delay_ms / 1000
    # epoll sleeps in whole milliseconds, rounded up; select in microseconds, for fewer sockets.
    selector = selectors.SelectSelector if delay_s else selectors.DefaultSelector
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector())) as runner:
        runner.run(_serve(delay_s, freezes=options.freeze))


if __name__ == "__main__":
    main()

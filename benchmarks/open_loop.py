"""A client of little CPU time that keeps to a schedule, and notes what a refusal says.

`loadtest` is the product's own generator; this one is cheap enough to offer twice what a service
can do from the core beside it: whole requests are prepared, and of an answer only the status line
and two headers are read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

__all__ = ["MAX_CONNECTIONS", "OpenLoop", "Reply", "request_bytes"]

MAX_CONNECTIONS = 900
GRACE_S = 35.0  # for the last answers; the service gives up after 30


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one request; times in seconds from the start of the run.

    Args:
        due_s: when it was to leave.
        sent_s: when it left.
        done_s: when its answer was whole.
        status: of HTTP; 0 where no answer came, or none could be sent.
        retry_after: whether the answer says when to come back.
    """

    due_s: float
    sent_s: float
    done_s: float
    status: int
    retry_after: bool

    @property
    def latency_ms(self) -> float:
        """From the time it was due, which a late sender does not shorten."""
        return (self.done_s - self.due_s) * 1e3


def request_bytes(host: str, image: bytes, headers: dict[str, str]) -> bytes:
    """A whole POST /v1/classify."""
    lines = [
        "POST /v1/classify HTTP/1.1",
        f"host: {host}",
        "content-type: application/octet-stream",
        f"content-length: {len(image)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + image


class OpenLoop:
    """Sends prepared requests over as many connections as are needed.

    Args:
        host: of the service.
        port: of the service.
        requests: what to send, in turn.
    """

    def __init__(self, host: str, port: int, requests: Sequence[bytes]) -> None:
        self._host, self._port = host, port
        self._requests: Iterator[bytes] = cycle(requests)
        self._idle: list[_Connection] = []
        self._connections = 0
        self._origin_s = 0.0

    def offer(self, times_s: Sequence[float]) -> list[Reply]:
        """Send one request at each time, whatever becomes of the others.

        Returns:
            One reply per time; all of them are in, or given up.
        """
        return asyncio.run(self._offer(times_s))

    def saturate(self, users: int, seconds: float) -> list[Reply]:
        """Keep this many requests open for a while; those that were sent in it."""
        return asyncio.run(self._saturate(users, seconds))

    async def _offer(self, times_s: Sequence[float]) -> list[Reply]:
        self._start()
        tasks = []
        for due_s in times_s:
            wait_s = due_s - self._now_s()
            await asyncio.sleep(max(wait_s, 0.0))
            tasks.append(asyncio.create_task(self._send(due_s)))
        done, late = await asyncio.wait(tasks, timeout=GRACE_S)
        for task in late:
            task.cancel()
        self._stop()
        now_s = self._now_s()
        lost = [Reply(now_s, now_s, now_s, 0, retry_after=False)] * len(late)
        return [task.result() for task in done] + lost

    async def _saturate(self, users: int, seconds: float) -> list[Reply]:
        self._start()
        found: list[Reply] = []

        async def user() -> None:
            while (now_s := self._now_s()) < seconds:
                found.append(await self._send(now_s))

        await asyncio.gather(*(user() for _ in range(users)))
        self._stop()
        return found

    async def _send(self, due_s: float) -> Reply:
        sent_s = self._now_s()
        try:
            connection = await self._connection()
            status, retry_after = await connection.ask(next(self._requests))
            if connection.is_open:
                self._idle.append(connection)
            else:
                self._connections -= 1
        except ConnectionError:
            self._connections -= 1
            status, retry_after = 0, False
        except _NoConnectionLeft:
            status, retry_after = 0, False
        return Reply(due_s, sent_s, self._now_s(), status, retry_after)

    async def _connection(self) -> _Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
            self._connections -= 1
        if self._connections >= MAX_CONNECTIONS:
            raise _NoConnectionLeft
        self._connections += 1
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(_Connection, self._host, self._port)
        return made

    def _start(self) -> None:
        self._idle, self._connections = [], 0
        self._origin_s = time.perf_counter()

    def _stop(self) -> None:
        for connection in self._idle:
            connection.close()

    def _now_s(self) -> float:
        return time.perf_counter() - self._origin_s


class _NoConnectionLeft(Exception):
    """More requests are open than this client may have connections."""


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.is_open = True
        self._data = b""
        self._answer: asyncio.Future[tuple[int, bool]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def ask(self, request: bytes) -> tuple[int, bool]:
        """Status, and whether there is a Retry-After.

        Raises:
            ConnectionError: no whole answer came.
        """
        if not self.is_open:
            raise ConnectionResetError
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.is_open = False
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator or self._answer is None:
            return
        head = head.lower()
        length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._data = b""
        if b"\r\nconnection: close" in head:
            self.close()
        if not self._answer.done():
            self._answer.set_result((int(head[9:12]), b"\r\nretry-after: " in head))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

"""Batcher: bytes in, logits out; greedy micro-batches over one Runner.

Each request passes two stages off the event loop, in one pool of threads:

1. decode, one image per call, before any batch exists: an image that cannot be decoded fails alone;
2. infer, by one thread at a time. A thread that has decoded an image and finds nobody inferring
   takes all that waits, up to the runner's max_batch_size, again and again until nothing waits. It
   never waits for a batch to fill, so a lone request is not delayed.

So a request crosses between threads twice, to a worker and back, and a batch comes back at once.
With a thread of its own for inference, and the event loop between the stages, the CPU time of a
request outside decoding and inference was longer by 0.05 ms with 8 requests open and by 0.13 ms
with one (of 0.37 and 0.67 ms; medians of 15 to 20 paired turns, on 2 busy CPU cores).

Decoding costs more than a small model, so several images are decoded at once: on 2 shared CPU cores
(512 x 384 JPEG, 2.8 ms decode and 1.0 ms inference per image, 8 requests open, median of 6 runs in
random order) 2 threads for it gave 572 images/s, 1 thread 370, and one thread for both stages 314.

One bound counts everything that is decoding, waiting or inferring. A slot is free again when its
work is really over, not when its client has gone. A request that would not be answered in its time
is refused at once (`serve.http.admission`); one whose time has passed is dropped before it is
decoded, and again before it is inferred.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from serve.contract.errors import ImageError
from serve.http.admission import EXPIRED, Costs, overloaded
from serve.http.problems import Problem, RequestError, without_frames
from serve.runners.base import Runner

__all__ = ["INVALID_OUTPUT", "Batcher", "InferenceResult"]

INVALID_OUTPUT = Problem(
    500, "invalid-model-output", "The model gave no valid prediction", "Its output is not finite."
)


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """What one request gets.

    Args:
        logits: (K,) float32, finite.
        decode_ms: time in the decoder.
        queue_ms: time waiting, for a decoder and for the batch before.
        infer_ms: time of the whole batch in the runner.
        batch_size: images in that batch.
    """

    logits: NDArray[np.float32]
    decode_ms: float
    queue_ms: float
    infer_ms: float
    batch_size: int


@dataclass(slots=True, eq=False)
class _Ticket:
    data: bytes
    result: asyncio.Future[InferenceResult]
    deadline: float  # of time.perf_counter()
    opened_at: float = field(default_factory=time.perf_counter)
    decode_ms: float = 0.0
    pixels: NDArray[np.uint8] = field(init=False)


class Batcher:
    """Runs requests through decode and infer; its methods belong to one event loop.

    Args:
        runner: computes batches; used by one thread at a time.
        decode: bytes -> (size_px, size_px, 3) uint8; raises ImageError.
        max_queue: requests inside at once; one more is refused.
        decode_threads: images decoded at once, beside an inference.
        observed: called, in a thread and after the results, with the (N, K) logits of each batch
            and with how many decoded images it left waiting.
    """

    def __init__(
        self,
        runner: Runner,
        decode: Callable[[bytes], NDArray[np.uint8]],
        *,
        max_queue: int = 64,
        decode_threads: int = 2,
        observed: Callable[[NDArray[np.floating], int], None] | None = None,
    ) -> None:
        self._runner = runner
        self._decode = decode
        self._max_queue = max_queue
        self._observed = observed
        self._threads = ThreadPoolExecutor(decode_threads + 1, thread_name_prefix="batcher")
        self._inside: set[_Ticket] = set()
        self._invalid_in_a_row = 0
        # What follows is shared by the threads.
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket] = deque()
        self._inferring = False
        self._costs = Costs()
        self._finished_at = 0.0  # when the last batch was, on time.perf_counter()

    @property
    def open_requests(self) -> int:
        """Requests that hold a slot now."""
        return len(self._inside)

    @property
    def invalid_in_a_row(self) -> int:
        """Predictions that were not finite since the last that was."""
        return self._invalid_in_a_row

    def check_room(self, budget_ms: float) -> None:
        """Refuse a request that would not be answered in its time.

        Args:
            budget_ms: time that is left for the result. A batcher with nothing to do tries
                whatever it expects: else one slow image would shut it for good.

        Raises:
            RequestError: overloaded.
        """
        inside = len(self._inside)
        expected_ms = self._costs.expected_ms(inside)
        late = inside and expected_ms > budget_ms
        if late or inside >= self._max_queue:
            raise RequestError(overloaded(expected_ms))

    def submit(
        self, data: bytes, *, budget_ms: float = math.inf
    ) -> asyncio.Future[InferenceResult]:
        """Start a request. Cancel the future to drop it; it is then not inferred.

        Args:
            data: bytes of the image file.
            budget_ms: as in `check_room`.

        Returns:
            A future of the result; its exception is an ImageError or a RequestError.

        Raises:
            RequestError: overloaded; nothing was started.
        """
        ticket = self._admitted(data, budget_ms)
        self._threads.submit(self._decode_and_infer, ticket)
        return ticket.result

    def submit_pixels(
        self, pixels: NDArray[np.uint8], *, budget_ms: float = math.inf
    ) -> asyncio.Future[InferenceResult]:
        """Start a request that needs no decoding.

        Args:
            pixels: (size_px, size_px, 3) uint8, as `decode` would give them.
            budget_ms: as in `check_room`.

        Raises:
            RequestError: overloaded; nothing was started.
        """
        ticket = self._admitted(b"", budget_ms)
        ticket.pixels = pixels
        with self._lock:
            self._waiting.append(ticket)
        self._threads.submit(self._infer_what_waits)
        return ticket.result

    def __enter__(self) -> Batcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for ticket in tuple(self._inside):  # after the results that are on their way
            _call(ticket, self._leave, ticket)

    def _admitted(self, data: bytes, budget_ms: float) -> _Ticket:
        self.check_room(budget_ms)
        deadline = time.perf_counter() + budget_ms / 1e3
        ticket = _Ticket(data, asyncio.get_running_loop().create_future(), deadline)
        self._inside.add(ticket)
        return ticket

    # In a thread:

    def _decode_and_infer(self, ticket: _Ticket) -> None:
        try:
            decoded = self._decode_ticket(ticket)
        except (ImageError, RequestError) as error:
            _call(ticket, self._leave, ticket, without_frames(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the request's result
            _call(ticket, self._leave, ticket, error)
            return
        if not decoded:
            _call(ticket, self._leave, ticket)
            return
        with self._lock:
            self._costs.decoded(ticket.decode_ms)
            self._waiting.append(ticket)
        self._infer_what_waits()

    def _decode_ticket(self, ticket: _Ticket) -> bool:
        """Whether there are pixels; not if nobody wants the result any more."""
        if ticket.result.cancelled():
            return False
        start = time.perf_counter()
        if start > ticket.deadline:
            raise RequestError(EXPIRED)
        ticket.pixels = self._decode(ticket.data)
        ticket.decode_ms = (time.perf_counter() - start) * 1e3
        ticket.data = b""
        return True

    def _infer_what_waits(self) -> None:
        """Infer until nothing waits, unless another thread does."""
        with self._lock:
            if self._inferring:
                return
            self._inferring = True
        while batch := self._next_batch():
            try:
                results = self._infer_batch(batch)
                _call(batch[0], self._finished, batch, results)
                if self._observed:
                    logits = np.stack([result.logits for result in results])
                    self._observed(logits, len(self._waiting))
            except Exception as error:  # noqa: BLE001 - the result of each that has none yet
                _call(batch[0], self._failed, batch, error)

    def _next_batch(self) -> list[_Ticket]:
        """What waits and is still wanted; when nothing is, another thread may infer."""
        batch: list[_Ticket] = []
        with self._lock:
            while self._waiting and len(batch) < self._runner.max_batch_size:
                ticket = self._waiting.popleft()
                if ticket.result.cancelled():
                    _call(ticket, self._leave, ticket)
                elif time.perf_counter() > ticket.deadline:
                    _call(ticket, self._leave, ticket, RequestError(EXPIRED))
                else:
                    batch.append(ticket)
            self._inferring = bool(batch)
        return batch

    def _infer_batch(self, batch: list[_Ticket]) -> list[InferenceResult]:
        start = time.perf_counter()
        logits = self._runner.infer(np.stack([ticket.pixels for ticket in batch]))
        end = time.perf_counter()
        infer_ms = (end - start) * 1e3
        self._count(batch, infer_ms, end)
        return [
            InferenceResult(
                row,
                ticket.decode_ms,
                (start - ticket.opened_at) * 1e3 - ticket.decode_ms,
                infer_ms,
                len(batch),
            )
            for ticket, row in zip(batch, logits, strict=True)
        ]

    def _count(self, batch: list[_Ticket], infer_ms: float, end: float) -> None:
        first = batch[0].opened_at
        took_ms = (end - max(first, self._finished_at)) * 1e3
        with self._lock:
            self._costs.inferred(infer_ms)
            self._costs.passed(len(batch), took_ms, waited=first < self._finished_at)
            self._finished_at = end

    # In the event loop again:

    def _finished(self, batch: list[_Ticket], results: list[InferenceResult]) -> None:
        for ticket, result in zip(batch, results, strict=True):
            finite = bool(np.isfinite(result.logits).all())
            self._invalid_in_a_row = 0 if finite else self._invalid_in_a_row + 1
            if finite and not ticket.result.done():
                ticket.result.set_result(result)
            self._leave(ticket, None if finite else RequestError(INVALID_OUTPUT))

    def _failed(self, batch: list[_Ticket], error: Exception) -> None:
        for ticket in batch:
            self._leave(ticket, error)

    def _leave(self, ticket: _Ticket, error: Exception | None = None) -> None:
        """Free the slot; who still waits then gets the error, or is told that nothing comes."""
        self._inside.discard(ticket)
        if ticket.result.done():
            return
        if error is None:
            ticket.result.cancel()
        else:
            ticket.result.set_exception(error)


def _call(ticket: _Ticket, function: Callable[..., None], *arguments: object) -> None:
    """Call a function in the event loop in which a request waits, if it still runs."""
    loop = ticket.result.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)

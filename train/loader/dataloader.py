"""The batches of a training, whatever becomes of the loader's worker processes."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Generator, Iterator
from multiprocessing.process import BaseProcess

import torch

from serve.contract.errors import StillroomError
from train.engine.progress import say
from train.loader.sampler import BatchSampler
from train.loader.views import Batch, Views, build_loader

__all__ = ["feed"]

RESTARTS = 3  # in a row, without a batch in between
SILENCE_S = 300.0  # without a batch: the workers hang
POLL_S = 2.0  # between two looks whether they live
LATE_S = 0.5  # waiting for one batch: polite workers get too little of the cores


def feed(
    views: Views,
    order: BatchSampler,
    *,
    workers: int,
    restarts: int = RESTARTS,
    silence_s: float = SILENCE_S,
) -> Generator[Batch, None, None]:
    """Yield the batches of `order`; workers that die or hang are started again where they were.

    A view is a function of its key, so a batch that is loaded again is the same batch.

    Args:
        views: of the images.
        order: which views, from its first step on.
        workers: loader processes; 0 loads in this one.
        restarts: of the workers, before the training gives up.
        silence_s: after which workers that yield nothing count as hung.

    Raises:
        StillroomError: the workers failed once more than `restarts` times at one batch.
    """
    done = failures = 0
    polite = not torch.cuda.is_available()  # the training needs the cores itself
    while True:
        rest = order.starting_at(order.first_step + done)
        try:
            for batch in _batches(views, rest, workers, silence_s, polite):
                yield batch
                done += 1
                failures = 0
            return
        except _Late:
            polite = False
        except _WorkersFailed as failure:
            failures += 1
            step = order.first_step + done
            if failures > restarts:
                raise StillroomError(
                    f"Loader workers failed {failures} times at step {step}: {failure}.",
                    "Run again with fewer workers (teacher.workers=0), or free some memory.",
                ) from failure
            say(f"  Loader workers are started again at step {step}: {failure}.")


class _Late(Exception):
    """Polite workers cannot keep up."""


class _WorkersFailed(Exception):
    """A worker died, or none yielded anything for too long."""


def _batches(
    views: Views, order: BatchSampler, workers: int, silence_s: float, polite: bool
) -> Iterator[Batch]:
    """The batches of one set of workers, which are gone at the end in any case."""
    if not workers:
        yield from build_loader(views, order, workers=0)
        return
    others = set(multiprocessing.active_children())
    poll_s = min(POLL_S, silence_s)
    iterator = iter(build_loader(views, order, workers=workers, poll_s=poll_s, polite=polite))
    mine = [child for child in multiprocessing.active_children() if child not in others]
    _leave_deaths_to_us()
    try:
        while True:
            asked_s = time.monotonic()
            try:
                batch = _next(iterator, mine, silence_s)
            except StopIteration:
                return
            late = polite and time.monotonic() - asked_s > LATE_S
            yield batch
            if late:
                raise _Late
    finally:
        for child in mine:
            child.kill()  # those that hang would outlive us: they ignore the signals that ask


def _next(iterator: Iterator[Batch], mine: list[BaseProcess], silence_s: float) -> Batch:
    asked_s = time.monotonic()
    while True:
        try:
            return next(iterator)
        except StopIteration:
            raise
        except StillroomError as error:
            raise _as_raised(error) from error
        except Exception as error:  # a dead worker shows as one of many types
            time.sleep(0.01)  # a process that was killed is not yet seen as dead
            dead = [child for child in mine if not child.is_alive()]
            if dead:
                raise _WorkersFailed(f"process {dead[0].pid} died ({_why(dead[0])})") from error
            if not str(error).startswith("DataLoader timed out"):
                raise
            if time.monotonic() - asked_s >= silence_s:
                raise _WorkersFailed(f"no batch for {silence_s:.0f} s") from error


def _as_raised(error: StillroomError) -> StillroomError:
    """What a worker raised; torch puts the worker's whole traceback before its one line."""
    line = error.message.strip().splitlines()[-1]
    return type(error)(line.removeprefix(f"{type(error).__module__}.{type(error).__name__}: "))


def _why(child: BaseProcess) -> str:
    code = child.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _leave_deaths_to_us() -> None:
    """Take away torch's handler: it raises wherever the training happens to be."""
    handler = signal.getsignal(signal.SIGCHLD)
    is_torch = getattr(handler, "__module__", "").startswith("torch.")
    if is_torch and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

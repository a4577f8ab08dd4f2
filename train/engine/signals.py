"""A signal that ends us (SIGTERM, Ctrl-C) asks a long step to stop at its next safe point.

Among ranks one signal may arrive several times, from the terminal, the scheduler and torchrun, and
all ranks stop together: there a further signal is none, until the process ends.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from serve.contract.signals import ending_signals
from train.engine.world import current_world

__all__ = ["StopFlag", "stop_on_signal"]


class StopFlag:
    """True once a signal came."""

    def __init__(self) -> None:
        self._raised = False

    def __bool__(self) -> bool:
        return self._raised

    def raise_flag(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler; alone in the world, a second signal interrupts at once."""
        del frame
        if self._raised and current_world().world_size == 1:
            raise KeyboardInterrupt(signal.Signals(signum).name)
        self._raised = True

    def follow(self) -> None:
        """Stop because another rank was asked to."""
        self._raised = True


@contextmanager
def stop_on_signal() -> Iterator[StopFlag]:
    """Turn signals that end us into a flag while the block runs; only in the main thread."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in ending_signals()}
    for number in before:
        signal.signal(number, flag.raise_flag)
    try:
        yield flag
    finally:
        ends = bool(flag) and current_world().world_size > 1
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if ends else handler)

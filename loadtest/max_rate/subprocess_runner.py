"""A load in a process of its own, which a signal to this one ends in good order.

Ended with this process, or killed by it, a load would lose what it has measured. So it gets a
session of its own, out of a terminal's reach, and each signal is passed on to it once: at the first
it writes its results and ends with code 75, at a second it ends at once.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from loadtest.errors import EXIT_STOPPED

__all__ = ["heeded", "run_child", "stopped_alike"]

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM")
    if hasattr(signal, name)
)
"""What asks a process to end; one that is ignored (nohup) stays so."""


def run_child(
    command: Sequence[str], *, quiet: bool = False, env: Mapping[str, str] | None = None
) -> int:
    """Run a command to its end.

    Args:
        command: program and arguments.
        quiet: whether its standard output is dropped.
        env: its variables; None for those of this process.

    Returns:
        Its exit code; 75 where it died of a signal that was passed on, 128 + n of signal n else.
    """
    output = subprocess.DEVNULL if quiet else None
    told: list[int] = []
    with _signals_to(told.append):  # a signal before there is a child reaches it right after
        child = subprocess.Popen(command, stdout=output, env=env, start_new_session=True)
        early = tuple(told)

        def pass_on(number: int) -> None:
            told.append(number)
            child.send_signal(number)

        with _signals_to(pass_on):
            for number in early:
                child.send_signal(number)
            code = child.wait()
    if code >= 0:
        return code
    return EXIT_STOPPED if -code in told else 128 - code


@contextmanager
def stopped_alike() -> Iterator[None]:
    """Let any of them end the block as Ctrl-C does, by KeyboardInterrupt."""
    with _signals_to(_interrupt):
        yield


def _interrupt(number: int) -> None:
    raise KeyboardInterrupt


def heeded() -> list[signal.Signals]:
    """The signals to handle here."""
    always = (signal.SIGINT, signal.SIGTERM)  # a shell ignores SIGINT for what it starts with `&`
    return [n for n in SIGNALS if n in always or signal.getsignal(n) is not signal.SIG_IGN]


@contextmanager
def _signals_to(receiver: Any) -> Iterator[None]:
    """Call `receiver` with the number of each signal, and give the old handlers back after it."""

    def handle(number: int, frame: FrameType | None) -> None:
        receiver(number)

    previous = {number: signal.signal(number, handle) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

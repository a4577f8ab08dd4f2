"""Signals that ask a process to end: all are treated alike, so that none skips the cleaning up.

A closed terminal sends HUP, a keyboard QUIT, a batch system USR1 or USR2 ahead of the end, a timer
ALRM; whatever a process does not handle ends it at once, with its temporary files left behind.
"""

from __future__ import annotations

import signal

__all__ = ["ENDING", "ending_signals"]

ENDING = tuple(
    getattr(signal, name)
    for name in (
        "SIGINT",
        "SIGTERM",
        "SIGHUP",
        "SIGQUIT",
        "SIGUSR1",
        "SIGUSR2",
        "SIGALRM",
        "SIGXCPU",
    )
    if hasattr(signal, name)
)
ALWAYS = (signal.SIGINT, signal.SIGTERM)  # a shell ignores SIGINT for what it starts with `&`


def ending_signals() -> list[signal.Signals]:
    """Those to handle here: not one that nohup, or whoever else started us, chose to ignore."""
    return [n for n in ENDING if n in ALWAYS or signal.getsignal(n) is not signal.SIG_IGN]

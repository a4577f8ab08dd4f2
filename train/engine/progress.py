"""Progress of long steps, logged: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train.engine.world import current_world

__all__ = ["Steps", "log_to_console", "say", "steps", "track"]

T = TypeVar("T")
LINE_EVERY_S = 10.0
PACKAGES = ("train", "compress", "export", "stillroom")

logger = logging.getLogger(__name__)


def say(text: str) -> None:
    """Log one line of progress at INFO; of several ranks, the first alone does.

    Nobody sees it before `log_to_console`, or a handler of the caller's own: used as a library,
    this is silent.
    """
    if current_world().is_writer:
        logger.info("%s", text)


class ConsoleHandler(logging.Handler):
    """Writes each message as it is, on what is standard error at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        try:
            console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
            console.print(record.getMessage(), markup=False)
        except Exception:  # noqa: BLE001  # as every handler of `logging`
            self.handleError(record)


def log_to_console(level: int = logging.INFO) -> None:
    """Show on standard error what our packages log; for commands, not for library calls.

    Args:
        level: of `logging`: INFO shows progress, WARNING hides it, DEBUG adds details.
    """
    for name in PACKAGES:
        package = logging.getLogger(name)
        package.setLevel(level)
        package.propagate = False
        if not any(isinstance(handler, ConsoleHandler) for handler in package.handlers):
            package.addHandler(ConsoleHandler())


class Steps:
    """A counter that shows itself. Made by `steps`."""

    def __init__(self, name: str, total: int, unit: str, bar: Progress | None) -> None:
        self._name, self._total, self._unit, self._bar = name, total, unit, bar
        self._task = bar.add_task(name, total=total, note="") if bar else None
        self._done = 0
        self._next_line_s = time.monotonic() + LINE_EVERY_S

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more steps done; `note` is shown beside them."""
        self._done += count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, note=note)
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + LINE_EVERY_S
            say(f"  {self._name}: {self._done}/{self._total} {self._unit}  {note}".rstrip())

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            say(text)


@contextmanager
def steps(name: str, total: int, unit: str = "steps") -> Iterator[Steps]:
    """Show the progress of `total` steps while the block runs."""
    shown = logger.isEnabledFor(logging.INFO) and current_world().is_writer
    if not (shown and sys.stderr.isatty()):
        yield Steps(name, total, unit, None)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Steps(name, total, unit, bar)


def track(items: Iterable[T], name: str, total: int, unit: str = "steps") -> Iterator[T]:
    """Yield the items while showing how many are done."""
    with steps(name, total, unit) as counter:
        for item in items:
            yield item
            counter.advance()

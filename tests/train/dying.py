"""Processes that die where a test wants them to: at the n-th file operation, or at any moment."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import train.engine.resume_state

FILE_EVENTS = (
    *("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.scandir"),
    *("os.listdir", "shutil.rmtree"),
)
SURVIVED = 0


class DeathAt:
    """Counts the file operations below a folder, and ends the process at the n-th; 0 only counts.

    Counted are Python's own (by audit events), each fsync, and the start, middle and end of the
    one file that is written elsewhere: the tensors.
    """

    def __init__(self, folder: Path, number: int = 0) -> None:
        self._folder, self._number = str(folder), number
        self.seen = 0
        sys.addaudithook(self._watch)
        fsync, save_file = os.fsync, train.engine.resume_state.save_file

        def counted_fsync(descriptor: int) -> None:
            self._count()
            fsync(descriptor)

        def torn_save(tensors: Any, path: Path) -> None:
            self._count()
            save_file(tensors, path)
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            self._count()
            path.write_bytes(whole)
            self._count()

        os.fsync = counted_fsync
        train.engine.resume_state.save_file = torn_save

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and self._folder in str(arguments[0]):
            self._count()

    def _count(self) -> None:
        self.seen += 1
        if self.seen == self._number:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_child(work: Callable[[], object], *, kill_after_s: float | None = None) -> int:
    """Run `work` in a forked process; its exit code, negative where a signal ended it."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = SURVIVED
        except BaseException:  # noqa: BLE001  (the parent tells of any end)
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)  # the child is not reaped yet, so the number is its own
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)

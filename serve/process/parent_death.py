"""Lifeline: child processes that end when their parent does, even when it is killed with -9.

Linux sends the signal chosen with prctl(PR_SET_PDEATHSIG) when the parent's *thread* that started
the child ends; the setting survives exec. Run as a module it sets the signal and becomes the
command, which is safer than code between fork and exec in a process that has threads:

    python -m serve.process.parent_death PARENT_PID -m bentoml serve ...
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["LENT", "die_with_parent", "parent_death_command", "remove_lent_folders"]

LENT = "_STILLROOM_LENT"  # variable: folders that a launcher made for this service alone

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """Ask for SIGTERM when the parent ends; end at once if it already has.

    Does nothing where the system lacks prctl.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before the call above
        sys.exit(128 + signal.SIGTERM)


def parent_death_command(*arguments: str) -> list[str]:
    """The command line that runs `python ARGUMENTS` as a child that dies with this process."""
    return [sys.executable, "-m", "serve.process.parent_death", str(os.getpid()), *arguments]


def remove_lent_folders() -> None:
    """Remove what a launcher made for this service, in the place of one that was killed."""
    for folder in filter(None, os.environ.get(LENT, "").split(os.pathsep)):
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            Path(folder).parent.rmdir()  # as its maker would, unless others use it


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])

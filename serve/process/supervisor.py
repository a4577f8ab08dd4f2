"""Supervisor: BentoML's parent process, made to replace dead workers at once, or to give up.

BentoML's own looks for dead workers every 10 s, and in a container it replaces none: with its last
worker it stops answering and goes on living. This one looks four times a second, replaces them
wherever it runs, and ends with exit code 1 when they keep dying, so that whoever started it knows.
A worker that refuses to serve ends it at once, unless another died before: then the service has run
already, and what is in its memory may be better than what lies on the disk. A worker that had
been ready and that the kernel killed for want of memory is replaced, and does not count for a crash
loop.

`bentoml serve` builds its parent from a class that this module replaces before the workers start.
That class is not documented; tests/serve/process/test_supervisor.py notices a BentoML that has
another.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

from bentoml._internal.utils import circus as bentoml_circus
from prometheus_client import multiprocess
from tornado import gen

from serve.process.cgroups import oom_kills
from serve.process.parent_death import remove_lent_folders
from serve.process.ready_mark import METRICS_FOLDER, was_ready
from serve.settings import Settings

__all__ = ["CrashLoop", "exposure", "supervise_workers"]

logger = logging.getLogger(__name__)
CHECK_S = 0.25
CLOSED_S = 0.5  # after the grace, the workers' own listeners are closed within that time


class CrashLoop:
    """Counts deaths in a moving window.

    Args:
        most: deaths that are tolerated within `window_s`.
        window_s: length of the window.
    """

    def __init__(self, most: int, window_s: float) -> None:
        self._most = most
        self._window_s = window_s
        self._deaths: deque[float] = deque()

    def count(self, deaths: int, now_s: float) -> bool:
        """Note deaths; True when there were more than `most` in the last `window_s`."""
        self._deaths.extend([now_s] * deaths)
        while self._deaths and self._deaths[0] <= now_s - self._window_s:
            self._deaths.popleft()
        return len(self._deaths) > self._most


class _Supervisor(bentoml_circus.Arbiter):  # type: ignore[misc]  # BentoML is not typed
    """Circus' arbiter with our rules.

    Args:
        watchers: as BentoML gives them, one for each service; arguments after it likewise.
        settings: grace and limits.
        guarded: whether a token is asked for.
        refusal: see `supervise_workers`.
    """

    def __init__(
        self,
        watchers: list[Any],
        *args: Any,
        settings: Settings,
        guarded: bool,
        refusal: int,
        **kwargs: Any,
    ) -> None:
        for watcher in watchers:
            watcher.respawn = True
            watcher.hooks["after_reap"] = self._note_exit
        super().__init__(watchers, *args, **{**kwargs, "check_delay": CHECK_S})
        self._grace_s = settings.grace_s
        for listener in kwargs.get("sockets") or ():
            if warning := exposure(listener.host, guarded=guarded):
                logger.warning(warning)
        self._limits = (settings.max_deaths, settings.deaths_window_s)
        self._crash_loop = CrashLoop(*self._limits)
        self._refusal = refusal
        self._first_exit: int | None = None
        self._exits: dict[int, int] = {}
        self._known: dict[int, str] = {}  # folder of its metrics, by worker
        self._oom_kills = oom_kills()
        self._exit_code = 0

    def start(self, cb: Any = None) -> None:
        parent = os.getppid()
        super().start(cb)
        if os.getppid() != parent:
            remove_lent_folders()
        if self._exit_code:
            raise SystemExit(self._exit_code)

    def manage_watchers(self) -> Any:
        # Circus raises where two of its commands meet; the next look is not far.
        return None if self._is_busy() else super().manage_watchers()

    def reap_processes(self) -> None:
        before = self._worker_folders()
        super().reap_processes()
        after = self._worker_folders()
        self._known |= before
        gone = {pid: self._known.pop(pid) for pid in self._known.keys() - after.keys()}
        # Circus forgets, unreported, a worker that died between its two looks; a worker that it
        # stopped itself is reported.
        dead = {
            pid: folder for pid, folder in gone.items() if pid in before or pid not in self._exits
        }
        for pid, folder in dead.items():
            if pid not in self._exits:
                self._note_exit(exit_code=0, process_pid=pid)
            with suppress(OSError):  # gauges of the living only
                multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
        if not dead or self._exit_code:
            return
        if self._first_exit is not None and self._first_exit >= self._refusal:
            self._give_up(self._first_exit - self._refusal)
        elif self._crash_loop.count(len(dead) - self._starved(dead), time.monotonic()):
            most, window_s = self._limits
            logger.error(
                f"more than {most} workers ended within {window_s} s; the service ends. "
                "Look for the reason in the lines above; without any, for memory that ran out."
            )
            self._give_up(1)

    @gen.coroutine  # Circus' commands return futures, which a native coroutine is not
    def stop(self) -> Any:
        while self._is_busy():  # or a SIGTERM at this moment would be lost
            yield gen.sleep(0.02)
        self.loop.call_later(self._grace_s + CLOSED_S, self._refuse_connections)
        yield super().stop()

    def _is_busy(self) -> bool:
        return self._exclusive_running_command is not None

    def _worker_folders(self) -> dict[int, str]:
        """Of each worker that is not known to be dead, the folder of its metrics."""
        return {
            process.pid: str((watcher.env or {}).get(METRICS_FOLDER, ""))
            for watcher in self.iter_watchers()
            for process in watcher.processes.values()
        }

    def _starved(self, dead: dict[int, str]) -> int:
        """How many of these had been ready, and were killed because memory ran out."""
        kills = oom_kills()
        killed = [pid for pid in dead if self._exits.pop(pid, 0) == -signal.SIGKILL]
        were_ready = [pid for pid in killed if was_ready(dead[pid], pid)]
        starved = min(len(were_ready), kills - self._oom_kills)
        self._oom_kills = kills
        if starved > 0:
            logger.error(
                f"{starved} worker(s) killed because the container's memory ran out; they "
                "are replaced. Give it more memory, or lower STILLROOM_MAX_MEGAPIXELS, "
                "STILLROOM_MAX_QUEUE or STILLROOM_WORKERS."
            )
        return max(starved, 0)

    def _note_exit(self, *, exit_code: int, process_pid: int, **_: Any) -> None:
        self._exits[process_pid] = exit_code
        if self._first_exit is None:
            self._first_exit = exit_code

    def _give_up(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self.loop.add_callback(self.stop)

    def _refuse_connections(self) -> None:
        """Stop listening: this process holds the port until the last request is answered.

        Without it a client that connects now would wait until then, only to be cut off.
        """
        for listener in self.sockets.values():
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RD)


def supervise_workers(settings: Settings, *, refusal: int) -> None:
    """Make the parent process that BentoML is about to build ours.

    Args:
        settings: grace and limits.
        refusal: a worker that has said why it does not serve ends with this and the exit code that
            the service is to end with.
    """
    bentoml_circus.Arbiter = partial(
        _Supervisor, settings=settings, guarded=bool(settings.bearer), refusal=refusal
    )


def exposure(address: str, *, guarded: bool) -> str:
    """What to say of a service that strangers can reach; nothing of another.

    Args:
        address: IP address that it listens on.
        guarded: whether it asks for a token.
    """
    if guarded or ip_address(address).is_loopback:
        return ""
    return (
        f"{address} can be reached from other machines, and whoever reaches it is "
        "answered. Set STILLROOM_TOKEN, keep it behind a proxy that asks for one, or listen on "
        "this machine alone: --host 127.0.0.1"
    )

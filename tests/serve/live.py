"""A service of real processes, and open-loop load against it, for the tests of its life."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from serve.process.hot_reload.admin import ask_workers

SERVE = """
import sys
from pathlib import Path
from serve.process.launch import serve_forever
sys.exit(serve_forever(Path(sys.argv[1]), port=int(sys.argv[2]), say=print))
"""
JPEG = {"content-type": "image/jpeg"}


@dataclass
class Service:
    """A `stillroom serve` that runs.

    Args:
        process: the launcher.
        url: where it answers.
        control: folder of its admin sockets.
        mark: what the environment of its processes, and of no other, holds.
        log: its output so far.
        start_s: what its start took.
    """

    process: subprocess.Popen[bytes]
    url: str
    control: Path
    mark: str
    log: Path
    start_s: float = 0.0

    def workers(self) -> set[int]:
        """Process numbers of the workers that have started and are alive."""
        return {answer["worker"] for answer in ask_workers(self.control, "status")}

    def processes(self) -> list[int]:
        """Every process of this service."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and self.mark.encode() in (
                    folder / "environ"
                ).read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found


@contextmanager
def service(
    artifact: Path,
    port: int,
    folder: Path,
    *,
    workers: int = 1,
    group: Path | None = None,
    **settings: str,
) -> Iterator[Service]:
    """Serve `artifact` as in a container until the block ends.

    Args:
        artifact: artifact folder.
        port: a free TCP port.
        folder: for its log and its temporary files.
        workers: processes that answer.
        group: folder of the cgroup in which all of it runs; that of this process when None.
        settings: STILLROOM_* by their last word: `grace_s="2"`.
    """
    log = folder / f"{port}.log"
    mark = f"TMPDIR={folder}/{port}"
    (folder / str(port)).mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "TMPDIR": f"{folder}/{port}",
        "BENTOML_CONTAINERIZED": "true",
        "STILLROOM_WORKERS": str(workers),
        **{f"STILLROOM_{name.upper()}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-u", "-c", SERVE, str(artifact), str(port)]
    if group:
        command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', f"{group}/cgroup.procs", *command]
    with (
        log.open("ab") as out,
        subprocess.Popen(command, stdout=out, stderr=out, env=environment) as process,
    ):
        control = folder / str(port) / f"stillroom-{os.getuid()}" / f"127.0.0.1_{port}"
        running = Service(process, f"http://127.0.0.1:{port}", control, mark, log)
        begun = time.monotonic()
        try:
            wait_until(lambda: ready(running) or process.poll() is not None, timeout_s=90)
            assert process.poll() is None, log.read_text()
            wait_until(lambda: len(running.workers()) == workers, timeout_s=60)
            running.start_s = time.monotonic() - begun
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(40)
                finally:
                    process.kill()


def ready(running: Service) -> bool:
    """Whether /readyz says so."""
    try:
        return httpx.get(f"{running.url}/readyz", timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float) -> float:
    """Wait for a condition; gives the seconds that it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + timeout_s, "it did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - begun


@dataclass
class Outcome:
    """What became of one request: status 0 is not an answer at all."""

    status: int
    digest: str = ""
    tries: int = 1
    why: str = ""


@dataclass
class Load:
    """Requests at a fixed rate, whatever the predictions do.

    Args:
        send: sends one image, told which try it is; raises httpx.TransportError where there is
            no answer.
        rate: requests per second.
        tries: how often a request is sent at most; after no answer, or one with Retry-After.
        trying_again: requests that are in a later try than their first.
        outcomes: of the requests that are over.
    """

    send: Callable[[int], Awaitable[httpx.Response]]
    rate: float
    tries: int = 1
    trying_again: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    @asynccontextmanager
    async def offered(self) -> AsyncIterator[None]:
        """Offer load while the block runs, and wait for the last answer."""
        requests: set[asyncio.Task[None]] = set()

        async def arrivals() -> None:
            begun = time.monotonic()
            for turn in range(10**9):
                await asyncio.sleep(begun + turn / self.rate - time.monotonic())
                task = asyncio.create_task(self._ask())
                requests.add(task)
                task.add_done_callback(requests.discard)

        offering = asyncio.create_task(arrivals())
        try:
            yield
        finally:
            offering.cancel()
            await asyncio.gather(*requests)

    async def _ask(self) -> None:
        outcome, wait_s = await self._try(1)
        if outcome.status != 200 and self.tries > 1:
            self.trying_again += 1
            try:
                for turn in range(2, self.tries + 1):
                    await asyncio.sleep(wait_s)
                    outcome, wait_s = await self._try(turn)
                    if outcome.status == 200:
                        break
            finally:
                self.trying_again -= 1
        self.outcomes.append(outcome)

    async def _try(self, turn: int) -> tuple[Outcome, float]:
        try:
            answer = await self.send(turn)
        except httpx.TransportError as error:
            return Outcome(0, tries=turn, why=repr(error)), 0.0
        if answer.status_code == 200:
            return Outcome(200, answer.json()["model"]["digest"], turn), 0.0
        wait_s = float(answer.headers.get("retry-after", "0"))
        return Outcome(answer.status_code, tries=turn, why=answer.text[:200]), wait_s

    @property
    def lost(self) -> list[Outcome]:
        """Requests without an answer of 200."""
        return [one for one in self.outcomes if one.status != 200]

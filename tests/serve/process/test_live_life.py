"""How real processes die, end and change: a worker, a service, a model."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from serve.process.hot_reload.admin import ask_workers
from serve.process.launch import _free_port
from tests.serve.live import JPEG, Load, Service, ready, service, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]
CONNECTIONS = httpx.Limits(max_connections=200, max_keepalive_connections=20, keepalive_expiry=2)


@asynccontextmanager
async def load_on(url: str, photo: bytes, *, rate: float, tries: int = 1) -> AsyncIterator[Load]:
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=CONNECTIONS) as client:

        async def send(turn: int) -> httpx.Response:
            if turn == 1:
                return await client.post("/v1/classify", content=photo, headers=JPEG)
            # Another kept connection may lead to the same dead worker.
            async with httpx.AsyncClient(base_url=url, timeout=30) as fresh:
                return await fresh.post("/v1/classify", content=photo, headers=JPEG)

        load = Load(send, rate, tries)
        async with load.offered():
            yield load


def half_sent(running: Service, photo: bytes) -> socket.socket:
    """A request whose headers and half of whose body have arrived."""
    port = int(running.url.rsplit(":", 1)[1])
    wire = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = f"content-type: image/jpeg\r\ncontent-length: {len(photo)}\r\n\r\n"
    wire.sendall(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\n" + head.encode())
    wire.sendall(photo[: len(photo) // 2])
    return wire


def test_in_a_container_a_worker_is_replaced_and_sigterm_loses_nothing(
    tiny_artifact: Path, tmp_path: Path, jpeg: bytes
) -> None:
    with ExitStack() as wires, service(tiny_artifact, _free_port(), tmp_path) as running:
        [first] = running.workers()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: ready(running) and running.workers() != {first}, timeout_s=60)

        open_requests = [wires.enter_context(half_sent(running, jpeg)) for _ in range(8)]
        time.sleep(0.2)
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not ready(running), timeout_s=1)  # not ready, within the grace
        during = httpx.post(f"{running.url}/v1/classify", content=jpeg, headers=JPEG)
        assert during.status_code == 200  # and still answering
        assert during.headers["connection"] == "close"
        time.sleep(1.5)  # the grace is over: these are in flight when the server stops
        for wire in open_requests:
            wire.sendall(jpeg[len(jpeg) // 2 :])
        answers = [wire.recv(65536) for wire in open_requests]
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 8
        assert running.process.wait(20) == 0
        assert not running.processes()


@pytest.mark.ci
def test_what_never_finishes_is_cut(tiny_artifact: Path, tmp_path: Path, jpeg: bytes) -> None:
    settings = {"grace_s": "0", "drain_s": "1", "body_timeout_s": "60"}
    with service(tiny_artifact, _free_port(), tmp_path, **settings) as running:
        with half_sent(running, jpeg):
            time.sleep(0.2)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(10) == 0
        assert "they are cut" in running.log.read_text()
        assert not running.processes()


@pytest.mark.ci
def test_workers_that_keep_dying_end_the_service(artifact_copy: Path, tmp_path: Path) -> None:
    """Through `bentoml serve` alone, which keeps no copy: a new worker refuses a changed file."""
    port = _free_port()
    mark = f"STILLROOM_ARTIFACT={artifact_copy}"
    environment = {
        **os.environ,
        "STILLROOM_ARTIFACT": str(artifact_copy),
        "STILLROOM_MAX_DEATHS": "2",
        "BENTOML_HOME": str(tmp_path / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_CONTAINERIZED": "true",
    }
    command = [sys.executable, "-m", "bentoml", "serve", "serve.service:Classifier", "--quiet"]
    log = tmp_path / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=Path(__file__).parents[3],
            env=environment,
            stdout=out,
            stderr=out,
        ) as process,
    ):
        running = Service(process, f"http://127.0.0.1:{port}", tmp_path, mark, log)
        try:
            wait_until(lambda: ready(running), timeout_s=60)
            [worker] = [pid for pid in running.processes() if pid != process.pid]
            (artifact_copy / "reference.csv").write_bytes(b"changed")
            os.kill(worker, signal.SIGKILL)
            assert process.wait(60) == 1
        finally:
            process.kill()
    text = log.read_text()
    assert text.count("is damaged") == 2, text
    assert "error: more than 2 workers ended within 60 s; the service ends. Look for" in text
    assert "Traceback" not in text
    assert not running.processes()


def one_at_work(pids: set[int]) -> int:
    """A worker that has computed for the last clock ticks, of 10 ms each."""
    most_s = 10.0
    begun = time.monotonic()
    while time.monotonic() < begun + most_s:
        before = {pid: cpu_ticks(pid) for pid in pids}
        for _ in range(10):
            time.sleep(0.005)
            for pid in pids:
                if cpu_ticks(pid) >= before[pid] + 2:
                    return pid
    raise AssertionError("no worker had work")


def cpu_ticks(pid: int) -> int:
    """CPU time of a process so far, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


async def kill_workers(running: Service, photo: bytes, kills: int) -> tuple[Load, list[float]]:
    recovery_s = []
    async with load_on(running.url, photo, rate=4, tries=2) as load:
        for _ in range(kills):
            await asyncio.sleep(1)
            before = await asyncio.to_thread(running.workers)
            victim = await asyncio.to_thread(one_at_work, before)
            os.kill(victim, signal.SIGKILL)

            def back(lost: int = victim, count: int = len(before)) -> bool:
                return lost not in (now := running.workers()) and len(now) == count

            recovery_s.append(await asyncio.to_thread(wait_until, back, 60))
            while load.trying_again:  # one client retry is for one death
                await asyncio.sleep(0.05)
    return load, recovery_s


@pytest.mark.parametrize(
    "kills", [pytest.param(5, marks=pytest.mark.ci), pytest.param(100, marks=pytest.mark.slow)]
)
def test_killed_workers_lose_nothing_that_is_sent_twice(
    tiny_artifact: Path, tmp_path: Path, make_picture, encode, kills: int, capsys
) -> None:
    photo = encode(make_picture(1, 2800, 2100), "PNG")  # takes long enough to be killed in
    with service(tiny_artifact, _free_port(), tmp_path, workers=2, max_deaths="4096") as running:
        load, recovery_s = asyncio.run(kill_workers(running, photo, kills))
    again = sum(outcome.tries > 1 for outcome in load.outcomes)
    with capsys.disabled():
        print(
            f"\n{kills} kills, {len(load.outcomes)} requests, {again} sent twice, "
            f"{len(load.lost)} lost; capacity back after {statistics.median(recovery_s):.1f} s "
            f"(median), {max(recovery_s):.1f} s (longest); start {running.start_s:.1f} s"
        )
    assert not load.lost, load.lost[:3]
    assert again, "no kill hit a request"
    # A yardstick for any machine: a start is two such processes, one after the other.
    assert statistics.median(recovery_s) <= running.start_s


class Balancer:
    """A reverse proxy's part: health checks, kept connections, and no second try.

    Args:
        urls: of the backends.
        photo: what every request sends.
    """

    def __init__(self, urls: list[str], photo: bytes) -> None:
        self._photo = photo
        self._clients = {
            url: httpx.AsyncClient(base_url=url, timeout=30, limits=CONNECTIONS) for url in urls
        }
        self._ready = dict.fromkeys(urls, True)
        self._turn = 0

    async def send(self, turn: int) -> httpx.Response:
        """Forward one request to the next backend that is ready."""
        urls = [url for url, ready in self._ready.items() if ready]
        assert urls, "no backend is ready"
        self._turn += 1
        client = self._clients[urls[self._turn % len(urls)]]
        return await client.post("/v1/classify", content=self._photo, headers=JPEG)

    async def check_health(self) -> None:
        """Look at /readyz every 0.2 s, until cancelled."""
        while True:
            for url, client in self._clients.items():
                try:
                    answer = await client.get("/readyz", timeout=1)
                    self._ready[url] = answer.status_code == 200
                except httpx.TransportError:
                    self._ready[url] = False
            await asyncio.sleep(0.2)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


@pytest.mark.parametrize(
    "restarts", [pytest.param(3, marks=pytest.mark.ci), pytest.param(20, marks=pytest.mark.slow)]
)
def test_restarts_behind_a_proxy_lose_nothing(
    tiny_artifact: Path, tmp_path: Path, jpeg: bytes, restarts: int, capsys
) -> None:
    ports = [_free_port(), _free_port()]

    async def scenario() -> Load:
        backends = {port: service(tiny_artifact, port, tmp_path, grace_s="2") for port in ports}
        running = {port: await asyncio.to_thread(one.__enter__) for port, one in backends.items()}
        balancer = Balancer([one.url for one in running.values()], jpeg)
        health = asyncio.create_task(balancer.check_health())
        load = Load(balancer.send, rate=20)
        try:
            async with load.offered():
                for turn in range(restarts):
                    await asyncio.sleep(1)
                    port = ports[turn % 2]
                    running[port].process.send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(running[port].process.wait, 60) == 0
                    await asyncio.to_thread(backends[port].__exit__, None, None, None)
                    backends[port] = service(tiny_artifact, port, tmp_path, grace_s="2")
                    running[port] = await asyncio.to_thread(backends[port].__enter__)
                await asyncio.sleep(1)
        finally:
            health.cancel()
            await balancer.close()
            for one in backends.values():
                await asyncio.to_thread(one.__exit__, None, None, None)
        return load

    load = asyncio.run(scenario())
    with capsys.disabled():
        print(f"\n{restarts} restarts, {len(load.outcomes)} requests, {len(load.lost)} lost")
    assert not load.lost, load.lost[:3]
    assert len(load.outcomes) > 20 * restarts


@pytest.mark.ci
def test_reloads_under_load_lose_nothing(
    tiny_artifact: Path, tmp_path: Path, build_artifact, jpeg: bytes
) -> None:
    other = build_artifact(tmp_path / "other", seed=5, labels=("ash", "elm"), side=24)
    bad = Path(shutil.copytree(other, tmp_path / "bad"))
    data = bytearray((bad / "model.onnx").read_bytes())
    data[random.Random(1).randrange(len(data))] ^= 1
    (bad / "model.onnx").write_bytes(data)

    async def scenario(running: Service) -> Load:
        async with load_on(running.url, jpeg, rate=40) as load:
            for what, path in (
                ("reload", other), ("rollback", None), ("reload", bad), ("rollback", None),
                ("reload", tiny_artifact), ("reload", other),
            ):  # fmt: skip
                await asyncio.sleep(1)
                answers = await asyncio.to_thread(ask_workers, running.control, what, path)
                assert [answer["ok"] for answer in answers] == [path != bad] * 2, answers
            await asyncio.sleep(1)
        return load

    with service(tiny_artifact, _free_port(), tmp_path, workers=2) as running:
        load = asyncio.run(scenario(running))
        text = running.log.read_text()
    assert not load.lost, load.lost[:3]
    assert len({outcome.digest for outcome in load.outcomes}) == 2
    assert text.count('"event": "reload-refused"') == 2
    assert "Traceback" not in text

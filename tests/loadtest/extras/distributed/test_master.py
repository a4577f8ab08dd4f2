"""A load split among processes, which must give what one process would."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loadtest.generator.affinity import process_tree
from loadtest.generator.histogram import LatencyHistogram, has_histograms
from loadtest.plan.scenario import scenario_times
from tests.loadtest.stub_server import (
    ROOT,
    Behaviour,
    command,
    run_command,
    run_script,
    served,
    write_corpus,
)

pytestmark = pytest.mark.e2e

LOAD = ("--rate", 60, "--duration-s", 2, "--warmup-s", 0, "--slo", "p50=5s", "--seed", 4)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """One load by three workers: its folder, how many requests were served, what was printed."""
    folder = tmp_path_factory.mktemp("split")
    behaviour = Behaviour(
        delay_s=0.01,
        status_of=lambda number: 503 if number % 10 == 3 else 200,
        drops=lambda number: number % 10 == 5,
    )
    with served(behaviour) as url:
        corpus = write_corpus(folder)
        done = run_command(url, "--corpus", corpus, "--out", folder / "out", *LOAD, "--workers", 3)
    assert done.returncode == 0, done.stderr
    return folder / "out", behaviour.served - 1, done.stdout  # 1: the probe


def read(out: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    with (out / "samples.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return json.loads((out / "summary.json").read_text()), rows


def test_every_request_of_every_worker_has_one_outcome(split: tuple[Path, int, str]) -> None:
    summary, rows = read(split[0])
    assert sum(summary["counts"].values()) == summary["planned"] == len(rows) == split[1]
    assert summary["counts"]["http_error"] > 0
    assert summary["counts"]["connection_error"] > 0
    assert [worker["worker"] for worker in summary["generators"]] == [0, 1, 2]
    assert sum(worker["requests"] for worker in summary["generators"]) == len(rows)
    assert summary["lost_workers"] == 0
    assert "3 processes, the busiest" in split[2]


def test_the_planned_times_are_the_union_of_the_shares(split: tuple[Path, int, str]) -> None:
    _, rows = read(split[0])
    plan = {"rate": 60.0, "duration_s": 2.0, "warmup_s": 0.0, "seed": 4, "workers": 3}
    shares = [scenario_times("server", **plan, worker=worker) for worker in range(3)]
    planned = sorted(time_s for share in shares for time_s in share)
    assert [float(row["planned_s"]) for row in rows] == pytest.approx(planned, abs=1e-6)


@pytest.mark.skipif(not has_histograms(), reason="the package hdrhistogram is not installed")
def test_merged_histograms_are_those_of_all_samples(split: tuple[Path, int, str]) -> None:
    summary, rows = read(split[0])
    for kind in ("intended", "service"):
        timed = [row for row in rows if row["outcome"] in ("ok", "http_error")]
        merged = summary["histograms"][kind]
        assert merged["n"] == len(timed) == summary[kind]["n"]
        assert merged["p99_ms"] == pytest.approx(summary[kind]["p99_ms"], rel=1e-3)
        whole = LatencyHistogram.of(float(row[f"{kind}_ms"]) for row in timed)
        assert LatencyHistogram(merged["encoded"]).n == whole.n


@pytest.mark.ci
def test_closed_loop_clients_are_shared_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ("--mode", "closed", "--users", 5, "--duration-s", 1, "--warmup-s", 0, "--workers", 2)
    with served(Behaviour(delay_s=0.02)) as url:
        run_command(url, "--corpus", write_corpus(tmp_path), "--out", out, *flags)
    summary, rows = read(out)
    assert summary["counts"]["ok"] == len(rows) > 50
    more, fewer = (worker["requests"] for worker in summary["generators"])
    assert more / fewer == pytest.approx(3 / 2, rel=0.3)


def test_a_worker_with_other_images_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    corpus, foreign = write_corpus(tmp_path), write_corpus(other, expected="tulips")
    with served(Behaviour()) as url:
        done = run_script(f"""
            import os
            os.environ["GEVENT_BACKEND"] = "select"
            import locust
            from pathlib import Path
            from loadtest.plan.corpus import load_corpus
            from loadtest.errors import LoadTestError
            from loadtest.extras.distributed.master import run_fleet
            from loadtest.plan.load_plan import LoadPlan
            from loadtest.plan.worker_fleet import Fleet
            plan = LoadPlan(url={url!r}, rate=9.0, workers=2, warmup_s=0.0)
            try:
                images = load_corpus(Path({str(corpus)!r}))
                run_fleet(plan, images, print, Fleet(corpus=Path({str(foreign)!r})))
            except LoadTestError as error:
                print(error)
        """)
    assert done.stdout == (
        "a worker holds other images, or expects other labels, than the master; give all of them "
        "the same --corpus\n"
    )


KILLED = ("--rate", 40, "--duration-s", 4, "--warmup-s", 0, "--workers", 2)


def kill_one_and_wait(behaviour: Behaviour, master: subprocess.Popen[bytes], pid: int) -> int:
    deadline_s = time.monotonic() + 30
    while behaviour.served < 20 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    os.kill(pid or process_tree(master.pid)[-1], signal.SIGKILL)
    return master.wait(50)


def check_what_is_left(out: Path) -> None:
    """The load ends without the lost one, keeps what the other did, and is not a measurement."""
    summary, rows = read(out)
    assert summary["lost_workers"] == 1
    assert summary["counts"]["ok"] == len(rows) > 20
    assert any("1 of 2 workers gave no result" in text for text in summary["warnings"])


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    out, corpus, behaviour = tmp_path / "out", write_corpus(tmp_path), Behaviour()
    with served(behaviour) as url:
        master = start(command(url, "--corpus", corpus, "--out", out, *KILLED))
        try:
            assert kill_one_and_wait(behaviour, master, 0) == 3
        finally:
            master.kill()
            master.wait()
    check_what_is_left(out)


@pytest.mark.ci
def test_a_worker_of_another_machine_that_is_killed(tmp_path: Path) -> None:
    out, corpus, behaviour = tmp_path / "out", write_corpus(tmp_path), Behaviour()
    address = f"127.0.0.1:{free_port()}"
    worker = [sys.executable, "-m", "loadtest.worker", address, "--corpus", str(corpus)]
    with served(behaviour) as url:
        words = command(url, "--corpus", corpus, "--out", out, *KILLED, "--bind", address)
        processes = [start(words), start(worker), start(worker)]
        try:
            assert kill_one_and_wait(behaviour, processes[0], processes[1].pid) == 3
            assert processes[2].wait(20) == 0  # it ends with its master
        finally:
            for process in processes:
                process.kill()
                process.wait()
    check_what_is_left(out)


@pytest.mark.ci
def test_a_signal_saves_what_all_workers_did(tmp_path: Path) -> None:
    out, corpus, behaviour = tmp_path / "out", write_corpus(tmp_path), Behaviour()
    flags = ("--rate", 40, "--duration-s", 60, "--warmup-s", 0, "--workers", 2)
    with served(behaviour) as url:
        master = start(command(url, "--corpus", corpus, "--out", out, *flags))
        try:
            deadline_s = time.monotonic() + 30
            while behaviour.served < 20 and time.monotonic() < deadline_s:
                time.sleep(0.05)
            master.send_signal(signal.SIGINT)
            assert master.wait(30) == 75
        finally:
            master.kill()
            master.wait()
    summary, rows = read(out)
    assert summary["stopped_by"] == "SIGINT"
    assert summary["lost_workers"] == 0
    assert summary["counts"]["ok"] == len(rows) >= 19


def test_a_port_that_is_taken_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, served(Behaviour()) as url:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        where = ("--corpus", write_corpus(tmp_path), "--out", tmp_path / "out")
        done = run_command(url, *where, "--bind", address)
    assert done.returncode == 2
    assert f"error: {address} cannot be listened on; name another port with --bind" in done.stderr


def start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])

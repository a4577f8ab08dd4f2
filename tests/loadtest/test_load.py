"""The whole load test in its own process, against services of known behaviour.

Limits are wide: the machine may be busy with other work.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

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


def read(out: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    with (out / "samples.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    summary = json.loads((out / "summary.json").read_text())
    assert sum(summary["counts"].values()) == summary["planned"] == len(rows)
    return summary, rows


def test_open_loop_measures_a_fixed_delay(tmp_path: Path) -> None:
    behaviour = Behaviour(delay_s=0.03)
    flags = ("--rate", 60, "--duration-s", 2.5, "--warmup-s", 0.5, "--slo", "p50=2s")
    with served(behaviour) as url:
        corpus = write_corpus(tmp_path)
        done = run_command(url, "--corpus", corpus, "--out", tmp_path / "out", *flags)
    summary, rows = read(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert 30 <= summary["intended"]["p50_ms"] <= 60
    assert summary["intended"]["p50_ms"] >= summary["service"]["p50_ms"]
    assert summary["counts"]["ok"] == summary["answers"]["checked"] == summary["planned"]
    assert behaviour.served > summary["planned"] + 1  # the probe and the warm-up are not counted
    assert behaviour.content_types == {"image/png"}
    assert summary["stage_means_ms"]["infer_ms"] == 2.5
    assert summary["model_digests"] == ["d1"]
    assert len({row["request_id"] for row in rows}) == len(rows)
    assert all(0 <= float(row["planned_s"]) < 2.5 for row in rows)
    assert all(float(row["sent_s"]) >= float(row["planned_s"]) for row in rows)
    assert "SLO          p50 <= 2000 ms: PASSED" in done.stdout
    assert max(map(len, done.stdout.partition("\nwritten")[0].splitlines())) <= 80


def test_an_open_loop_sees_a_freeze_and_a_closed_loop_hides_it(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path)
    window = ("--duration-s", 2.5, "--warmup-s", 0)

    def p90_of(mode: str, *load: object) -> float:
        out = tmp_path / mode
        with served(Behaviour(delay_s=0.005, frozen_from_s=0.8, frozen_for_s=1.0)) as url:
            run_command(url, "--corpus", corpus, "--out", out, "--mode", mode, *load, *window)
        summary, _ = read(out)
        assert summary["intended"]["max_ms"] > 700
        return float(summary["intended"]["p90_ms"])

    with ThreadPoolExecutor() as threads:  # both at once, to save time
        opened = threads.submit(p90_of, "open", "--rate", 50)
        closed = threads.submit(p90_of, "closed", "--users", 2)
    # 1 s of 2.5 s is frozen, and who arrives in it waits for its end: p90 is near 750 ms.
    assert opened.result() > 450
    assert closed.result() < 200


def test_wrong_answers_and_a_missed_objective_exit_1(tmp_path: Path) -> None:
    behaviour = Behaviour(
        delay_s=0.02,  # the generator's core stays idle enough to be believed
        label_of=lambda number: "daisy" if number % 5 == 1 else "roses",
        digest_of=lambda number: f"d{number % 2}",
    )
    flags = ("--mode", "closed", "--users", 2, "--duration-s", 0.5, "--slo", "p50=0.01ms")
    with served(behaviour) as url:
        corpus, out = write_corpus(tmp_path), tmp_path / "out"
        done = run_command(url, "--corpus", corpus, "--out", out, "--warmup-s", 0, *flags)
    summary, _ = read(out)
    assert done.returncode == 1
    assert summary["slo"]["met"] is False
    assert summary["counts"]["wrong_answer"] == summary["answers"]["wrong"] > 0
    assert summary["answers"]["examples"][0]["answer"] == "daisy"
    assert summary["model_digests"] == ["d0", "d1"]
    assert "p50 <= 0.01 ms: FAILED" in done.stdout


def test_every_planned_request_has_one_outcome(tmp_path: Path) -> None:
    behaviour = Behaviour(
        delay_s=0.05,
        status_of=lambda number: 503 if number % 10 == 3 else 200,
        drops=lambda number: number % 10 == 5,
        hangs=lambda number: number % 10 == 7,
    )
    out = tmp_path / "out"
    with served(behaviour) as url:
        done = run_script(f"""
            from pathlib import Path
            import locust, loadtest.generator.users
            from loadtest.__main__ import run
            from loadtest.plan.corpus import load_corpus
            from loadtest.plan.load_plan import LoadPlan
            loadtest.generator.users.MAX_IN_FLIGHT = 6
            plan = LoadPlan(url={url!r}, rate=80.0, duration_s=2.0, warmup_s=0.0, timeout_s=0.5)
            run(plan, load_corpus(Path({str(write_corpus(tmp_path))!r})), Path({str(out)!r}))
        """)
    assert done.returncode == 0, done.stderr
    summary, rows = read(out)
    counts = summary["counts"]
    assert counts.pop("wrong_answer") == 0
    assert all(number > 0 for number in counts.values()), counts
    timeouts = [float(row["intended_ms"]) for row in rows if row["outcome"] == "timeout"]
    assert min(timeouts) >= 500
    assert summary["intended"]["n"] == counts["ok"] + counts["http_error"] + counts["timeout"]
    assert {row["status"] for row in rows if row["outcome"] == "http_error"} == {"503"}
    assert {row["sent_s"] for row in rows if row["outcome"] == "missed"} == {""}


def test_the_window_is_the_one_asked_for(tmp_path: Path) -> None:
    """Three requests a second end well before 2 s do; two workers send as many of them."""
    out = tmp_path / "out"
    flags = ("--scenario", "constant", "--rate", 3, "--duration-s", 2, "--warmup-s", 0)
    with served(Behaviour()) as url:
        where = (url, "--corpus", write_corpus(tmp_path), "--out", out)
        done = run_command(*where, *flags, "--doubling")
    assert done.returncode in (0, 3), done.stderr
    summary, _ = read(out)
    assert (summary["duration_s"], summary["planned_rps"]) == (2, 3)
    assert (summary["doubling"]["workers"], summary["doubling"]["n"]) == (2, 6)


def test_each_load_of_a_session_watches_the_service_by_its_own_clock() -> None:
    done = run_script("""
        import subprocess, sys
        import loadtest.session as session
        from loadtest.plan.load_plan import LoadPlan
        from loadtest.generator.outcome import SampleLog
        from loadtest.generator.load_result import LoadResult
        from loadtest.extras.host_monitor.service_watch import ServiceWatch
        from tests.loadtest.hand_made import IMAGES, steady

        def run_load(plan, images, report):
            for now_s in (0.0, 1.0, 2.0):
                report(SampleLog(), now_s)
            return LoadResult(samples=steady(), duration_s=2.0)

        session.run_load = run_load
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        one = session.Session(IMAGES, watch=ServiceWatch(child.pid))
        plan = LoadPlan(url="http://127.0.0.1:9", rate=20.0, duration_s=2.0)
        for _ in range(2):
            print(one.measure(plan)[1]["service_process"]["time_s"])
        child.kill()
    """)
    assert done.stdout.splitlines() == ["[1.0, 2.0]"] * 2, done.stderr


@pytest.mark.parametrize(("number", "abandoned"), [(signal.SIGINT, 1), (signal.SIGTERM, 0)])
def test_a_signal_saves_what_ran(tmp_path: Path, number: signal.Signals, abandoned: int) -> None:
    behaviour = Behaviour(hangs=lambda request: bool(abandoned) and request == 12)
    flags = ("--rate", 40, "--duration-s", 60, "--warmup-s", 0)
    with served(behaviour) as url:
        corpus, out = write_corpus(tmp_path), tmp_path / "out"
        process = subprocess.Popen(
            command(url, "--corpus", corpus, "--out", out, *flags),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline_s = time.monotonic() + 30
            while behaviour.served < 20 and time.monotonic() < deadline_s:
                time.sleep(0.02)
            process.send_signal(number)
            assert process.wait(15) == 75
        finally:
            process.kill()
            process.wait()
    summary, _ = read(out)
    assert summary["stopped_by"] == number.name
    assert summary["abandoned"] == abandoned
    assert 0 < summary["duration_s"] < 30
    assert summary["counts"]["ok"] == summary["planned"] > 10


def test_plain_locust_runs_the_locustfile(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    # Locust's time begins before its imports end: on a busy machine little of 3 s was left.
    flags = ["--headless", "-u", "2", "-r", "2", "-t", "8s", "--only-summary", "--json"]
    with served(Behaviour(delay_s=0.01)) as url:
        done = subprocess.run(
            [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--host", url, *flags],
            cwd=ROOT,
            env=os.environ | {"STILLROOM_CORPUS": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    (entry,) = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert entry["name"] == "/v1/classify"
    assert entry["num_requests"] > 10
    assert entry["num_failures"] == 0


def test_the_locustfile_names_the_missing_variable() -> None:
    done = run_script("import loadtest.locustfile", STILLROOM_CORPUS="")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "error: STILLROOM_CORPUS is not set; try STILLROOM_CORPUS=images locust -f ...\n"
    )

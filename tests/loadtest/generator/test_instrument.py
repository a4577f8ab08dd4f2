"""The instrument against live servers of known behaviour, in figures; CI runs it.

Where the run calls itself invalid the machine was too busy to measure anything: it is skipped.
"""

from __future__ import annotations

import csv
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.loadtest.stub_server import Behaviour, run_command, run_script, served, write_corpus

pytestmark = [pytest.mark.ci, pytest.mark.e2e]


def measured(tmp_path: Path, url: str, *flags: object) -> tuple[dict[str, Any], Path]:
    out = tmp_path / "out"
    done = run_command(url, "--corpus", write_corpus(tmp_path), "--out", out, *flags)
    assert done.returncode in (0, 3), done.stderr
    summary = json.loads((out / "summary.json").read_text())
    if not summary["validity"]["valid"]:
        pytest.skip(f"the machine is too busy: {summary['warnings']}")
    return summary, out


def test_a_fixed_delay_of_20_ms(tmp_path: Path) -> None:
    """Against the empty server: 20 ms, what a bare socket takes beyond them here, 1 ms at most.

    What else a machine does only adds to it: the best of three is held to the millisecond.
    """
    over_socket_ms = []
    for attempt in range(3):
        p50_ms, socket_ms = of_a_fixed_delay(tmp_path / str(attempt))
        assert socket_ms > 20
        assert p50_ms > 19.9
        over_socket_ms.append(p50_ms - socket_ms)
        if over_socket_ms[-1] <= 1:
            return
    pytest.fail(f"p50 of the service over that of a bare socket: {over_socket_ms} ms")


def of_a_fixed_delay(folder: Path) -> tuple[float, float]:
    """The p50 that the load test reports, and that of a bare socket before and after it."""
    folder.mkdir()
    out = folder / "out"
    flags = ["--rate", "50", "--duration-s", "10", "--warmup-s", "1", "--slo", "p50=100ms"]
    where = ["--corpus", str(write_corpus(folder)), "--out", str(out), "--answer", ""]
    done = run_script(f"""
        import socket
        import statistics
        import time

        from loadtest.__main__ import main
        from loadtest.generator.null_server import running_null_server

        def by_socket(port, n=100):
            times_ms = []
            with socket.create_connection(("127.0.0.1", port)) as connection:
                for _ in range(n):
                    began_s = time.perf_counter()
                    connection.sendall(b"POST / HTTP/1.1\\r\\nContent-Length: 4\\r\\n\\r\\nbody")
                    connection.recv(4096)
                    times_ms.append((time.perf_counter() - began_s) * 1000)
            return statistics.median(times_ms)

        with running_null_server(delay_ms=20) as url:
            port = int(url.rpartition(":")[2])
            before_ms = by_socket(port)
            code = main([url, *{where!r}, *{flags!r}])
            print((before_ms + by_socket(port)) / 2)
            print(code)
    """)
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    if not summary["validity"]["valid"]:
        pytest.skip(f"the machine is too busy: {summary['warnings']}")
    *_, socket_ms, code = done.stdout.splitlines()
    assert code == "0"
    return summary["service"]["p50_ms"], float(socket_ms)


def test_a_freeze_of_1_s_in_5(tmp_path: Path) -> None:
    """p90 where theory has it: a tenth of all wait more than half of the freeze."""
    behaviour = Behaviour(delay_s=0.006, frozen_from_s=4.0, frozen_for_s=1.0, frozen_every_s=5.0)
    flags = ("--rate", 60, "--duration-s", 20, "--warmup-s", 0, "--slo", "p99=2s")
    with served(behaviour) as url:
        summary, _ = measured(tmp_path, url, *flags)
    assert summary["intended"]["p90_ms"] == pytest.approx(506, abs=75)


def test_one_percent_of_errors(tmp_path: Path) -> None:
    behaviour = Behaviour(status_of=lambda number: 500 if number % 100 == 50 else 200)
    flags = ("--rate", 150, "--duration-s", 10, "--warmup-s", 0, "--slo", "p50=200ms")
    with served(behaviour) as url:
        summary, _ = measured(tmp_path, url, *flags)
    assert summary["errors"]["low"] <= 0.01 <= summary["errors"]["high"]
    assert summary["counts"]["http_error"] == pytest.approx(summary["planned"] / 100, abs=1)


def test_gaps_between_actual_sendings_are_exponential(tmp_path: Path) -> None:
    """Kolmogorov-Smirnov at 1 %, on when requests were sent and not on when they were due."""
    with served(Behaviour()) as url:
        flags = ("--rate", 50, "--duration-s", 20, "--warmup-s", 0, "--slo", "p50=100ms")
        _, out = measured(tmp_path, url, *flags)
    with (out / "samples.csv").open(newline="") as lines:
        sent = sorted(float(row["sent_s"]) for row in csv.DictReader(lines))
    gaps = sorted(later - earlier for earlier, later in pairwise(sent))
    n = len(gaps)
    distance = max(abs((i + 0.5) / n - (1 - math.exp(-50 * gap))) for i, gap in enumerate(gaps))
    assert distance < 1.63 / math.sqrt(n)

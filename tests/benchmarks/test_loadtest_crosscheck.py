from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.loadtest_crosscheck import Turn, _at, _ms, table_of
from loadtest.null_server import running_null_server

ROOT = Path(__file__).parents[2]


def test_units_of_wrk() -> None:
    assert [_ms(text) for text in ("950.00us", "20.43ms", "1.02s", "1.5m")] == pytest.approx(
        [0.95, 20.43, 1020, 90_000]
    )


def test_percentiles_of_counted_latencies() -> None:
    counted = [(10.0, 50), (20.0, 49), (900.0, 1)]
    assert [_at(counted, 100, percentile) for percentile in (50, 90, 99)] == [10, 20, 20]


def test_agreement_is_judged_within_rounds() -> None:
    near = {"open": [Turn(20, 30, 40, 9, 1.0)] * 2, "script": [Turn(20.5, 30, 50, 9, 1.0)] * 2}
    near["closed"] = near["open"]
    text = table_of(near, {"open": [0.5, 0.7], "locust": [1.0, 1.2]})
    assert "| p50 open / script | 0.976 | 0.976 to 0.976 | yes |" in text
    assert "| p99 open / script | 0.800 | 0.800 to 0.800 | no |" in text
    assert "| locust | 1.100 | 1.000 to 1.200 |" in text


@pytest.mark.e2e
def test_the_script_measures_the_delay(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff" + bytes(1000))
    command = [sys.executable, "-m", "benchmarks.loadtest_script"]
    p50_ms = []
    for delay_ms in (30, 330):
        with running_null_server(delay_ms=delay_ms) as url:
            words = [*command, url, str(tmp_path), "--rate", "60", "--duration-s", "1.5"]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout)
        assert figures["failed"] == 0
        assert figures["n"] == pytest.approx(90, abs=35)
        assert figures["p50_ms"] >= delay_ms
        p50_ms.append(figures["p50_ms"])
    assert p50_ms[1] - p50_ms[0] > 100  # 300, were nothing else on the machine

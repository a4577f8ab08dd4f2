from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks.open_loop import Reply
from benchmarks.serve_overload import Bench, report, round_of

BENCH = Bench(SimpleNamespace(), SimpleNamespace(), slo_ms=100, seconds=10.0, peak_s=1.0)


def replies(count: int, status: int, took_s: float, *, retry_after: bool = False) -> list[Reply]:
    return [Reply(0.1 * i, 0.1 * i, 0.1 * i + took_s, status, retry_after) for i in range(count)]


def test_only_answers_within_twice_the_slo_are_goodput() -> None:
    offered = [*replies(80, 200, 0.05), *replies(20, 200, 0.25), *replies(100, 503, 0.01)]
    found = round_of(offered, replies(5, 200, 0.03), peak=10.0, sender=0.5, bench=BENCH)
    assert found.goodput == pytest.approx(0.8)
    assert found.p99_ms == pytest.approx(250)
    assert found.refusal_ms == pytest.approx(10)
    assert found.with_retry_after == 0.0
    assert found.recovered_ms == pytest.approx(30)
    assert found.statuses == {200: 100, 503: 100}


def test_latency_counts_from_the_time_a_request_was_due() -> None:
    late = [Reply(0.0, 0.3, 0.35, 200, retry_after=False)]
    found = round_of(late, late, peak=1.0, sender=0.5, bench=BENCH)
    assert (found.p99_ms, found.lateness_ms) == (pytest.approx(350), pytest.approx(300))


def test_the_table_has_a_row_a_round_and_the_medians() -> None:
    good = [*replies(95, 200, 0.05), *replies(5, 503, 0.02, retry_after=True)]
    one = round_of(good, good, peak=10.0, sender=0.5, bench=BENCH)
    lines = report([one, one], BENCH, ["conditions"]).splitlines()
    row = "| 10 | 10 | 0.95 | 50 | 20.0 | 100.0% | 50 | 0.0 | 50% | 200: 95, 503: 5 |"
    assert lines.count(row) == 2
    assert lines[-3:] == [
        "| goodput over peak | 0.95 (0.95 to 0.95) | at least 0.9 |",
        "| p99 of 200, ms | 50 (50 to 50) | at most 200 |",
        "| p99 of 503, ms | 20.0 (20.0 to 20.0) | at most 50 |",
    ]

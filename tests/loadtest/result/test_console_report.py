from __future__ import annotations

import io

import pytest

from loadtest.generator.outcome import Outcome, SampleLog
from loadtest.plan.slo import Slo
from loadtest.result.console_report import LoadProgress, progress_line, text_from_summary
from tests.loadtest.hand_made import sample, steady, summary_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_text_fits_80_columns_at_its_worst() -> None:
    failures = [sample(n / 10, 99_999.9, outcome) for n, outcome in enumerate(Outcome)] * 9
    text = text_from_summary(
        summary_of([*steady(), *failures], Slo(99.9, 50), stopped_by="SIGTERM", cpu_share=0.99)
    )
    assert max(map(len, text.splitlines())) <= 80
    assert "p99.9 <= 50 ms: FAILED" in text


def test_an_objective_that_cannot_be_judged_says_what_it_lacks() -> None:
    text = text_from_summary(summary_of(steady(60), Slo(99, 50)))
    assert "p99 <= 50 ms: INCONCLUSIVE" in text
    assert "60 requests, 100 needed" in " ".join(text.split())


@pytest.mark.parametrize("samples", [steady(), []])
def test_a_run_without_samples_can_be_shown(samples: list[object]) -> None:
    text = text_from_summary(summary_of(samples))
    assert "requests" in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target_rps": 20.0}, "target 20 on average, planned 20.0"),
        ({"target_rps": None, "users": 1}, "1 user, planned 20.0"),
        ({"target_rps": None, "users": 2}, "2 users, planned 20.0"),
        ({"target_rps": None, "users": None}, "requests/s   planned 20.0"),  # recorded
    ],
)
def test_what_was_offered_is_said(change: dict[str, object], said: str) -> None:
    assert said in text_from_summary(summary_of(steady()) | change)


def test_the_progress_line_fits_too() -> None:
    ended = [sample(0)] * 700_000
    log = SampleLog(samples=ended, sent=600_900, ok=400_000, missed=100_000)
    assert progress_line(log, 3600, 3600) == (
        "3600/3600 s  sent 600900  ok 400000  failed 200000  waiting 900  missed 100000"
    )
    assert len(progress_line(log, 3600, 3600)) < 80


def test_a_log_file_gets_a_line_each_5_s() -> None:
    stream = io.StringIO()
    progress = LoadProgress(stream, total_s=12)
    for second in range(-2, 13):
        progress(SampleLog(), second + 0.1)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["warm-up", "0/12 s", "5/12 s", "10/12 s"]


def test_a_terminal_gets_one_line_rewritten() -> None:
    stream = Terminal()
    progress = LoadProgress(stream, total_s=2)
    for second in range(-1, 3):
        progress(SampleLog(), second)
    progress.close()
    assert stream.getvalue().count("\r") == 4
    assert stream.getvalue().count("\n") == 1
    assert "warm-up" in stream.getvalue()

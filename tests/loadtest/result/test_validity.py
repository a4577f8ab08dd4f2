"""Each rule, shown to hold and to be broken; a broken one makes the exit code 3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadtest.generator.load_result import GeneratorReport
from loadtest.generator.outcome import Outcome
from loadtest.plan.slo import Slo
from loadtest.result.summary import exit_code_from_summary
from tests.loadtest.hand_made import sample, steady, summary_of

SLOW_SEND = [replace(one, sent_s=one.planned_s + 0.002) for one in steady()]


def broken(summary: dict[str, Any]) -> list[str]:
    return [rule["name"] for rule in summary["validity"]["rules"] if not rule["held"]]


def lagging(lag_ms: float, **fields: Any) -> list[GeneratorReport]:
    return [GeneratorReport(lag_p99_ms=lag_ms, **fields)]


@pytest.mark.parametrize(
    ("summary", "names"),
    [
        (summary_of(steady()), []),
        (summary_of(SLOW_SEND), ["dispatch_lateness_p99_ms"]),
        (summary_of(SLOW_SEND, Slo(99, 30)), ["dispatch_lateness_p99_ms"]),
        (summary_of(SLOW_SEND, Slo(99, 50)), []),
        (summary_of(steady(), generators=lagging(1.1)), ["event_loop_lag_p99_ms"]),
        (summary_of(steady(), generators=lagging(0.9)), []),
        (summary_of(steady(), cpu_share=0.71), ["generator_cpu_share"]),
        (summary_of(steady(), workers=3, lost_workers=1), ["lost_workers"]),
        (
            summary_of(steady(), further={"calibration": {"rate_share": 0.6, "capacity_rps": 33}}),
            ["capacity_share"],
        ),
        (
            summary_of(steady(), further={"calibration": {"rate_share": 0.4, "capacity_rps": 50}}),
            [],
        ),
        (summary_of(steady(), further={"doubling": {"p99_change": -0.2}}), ["doubling_p99_change"]),
        (summary_of(steady(), further={"doubling": {"p99_change": 0.05}}), []),
        (summary_of(steady(), further={"doubling": {"p99_change": None}}), []),
    ],
)
def test_rules(summary: dict[str, Any], names: list[str]) -> None:
    assert broken(summary) == names
    assert summary["validity"]["valid"] == (not names)
    assert len(summary["warnings"]) == len(names)
    assert exit_code_from_summary(summary) == (3 if names else 0)


def test_a_promise_is_not_missed_on_the_word_of_a_bad_generator() -> None:
    assert exit_code_from_summary(summary_of(SLOW_SEND, Slo(99, 19))) == 3
    assert exit_code_from_summary(summary_of(steady(), Slo(99, 19))) == 1


def test_a_wrong_answer_is_one_whatever_the_generator_did() -> None:
    wrong = sample(5, outcome=Outcome.WRONG_PREDICTION, prediction="daisy")
    assert exit_code_from_summary(summary_of([*SLOW_SEND, wrong])) == 1


def test_a_stopped_run_is_stopped() -> None:
    assert exit_code_from_summary(summary_of(SLOW_SEND, stopped_by="SIGINT")) == 75


def test_a_short_peak_is_told_and_breaks_no_rule() -> None:
    peak = [GeneratorReport(cpu_share=0.3, cpu_peak_share=0.95)]
    summary = summary_of(steady(), generators=peak, cpu_share=0.3)
    assert summary["validity"]["valid"]
    assert any("used 95% of its core for a second" in text for text in summary["warnings"])

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.generator.outcome import Outcome
from loadtest.plan.reply import ReplyModel
from loadtest.plan.slo import Slo
from loadtest.result.summary import exit_code_from_summary
from tests.loadtest.hand_made import MODEL, sample, steady, summary_of

KEYS = {
    "abandoned", "achieved_rps", "answers", "asked", "caching", "corpus", "counts",
    "dispatch_lateness", "duration_s", "environment", "errors", "generator_cpu_share",
    "generators", "good_rps", "histograms", "intended", "latency_population", "lost_workers",
    "mode", "model_digests", "models", "planned", "planned_rps", "scenario", "schema_version",
    "seed", "service", "stage_means_ms", "stopped_by", "target", "target_rps", "timeout_s",
    "trend", "url", "users", "validity", "warmup_s", "warnings", "workers",
    "reasons", "silence", "verdict",
}  # fmt: skip


def test_a_sound_run() -> None:
    summary = summary_of(steady(), Slo(99, 50))
    assert summary.keys() == KEYS | {"slo"}
    assert summary_of(steady()).keys() == KEYS
    assert summary["warnings"] == []
    assert summary["planned"] == summary["counts"]["ok"] == 200
    assert summary["planned_rps"] == summary["achieved_rps"] == summary["good_rps"] == 20
    assert summary["intended"]["p99_ms"] == summary["service"]["p50_ms"] == pytest.approx(20)
    assert summary["stage_means_ms"] == {
        "decode_ms": 1,
        "queue_ms": None,
        "infer_ms": 3,
        "total_ms": 4,
    }
    assert summary["model_digests"] == ["sha256:0123456789abcdef"]
    assert summary["slo"]["met"] is True
    assert exit_code_from_summary(summary) == 0
    json.dumps(summary, allow_nan=False)


@given(st.lists(st.sampled_from(Outcome), max_size=60))
def test_every_request_is_counted_once(outcomes: list[Outcome]) -> None:
    samples = [sample(number / 20, outcome=outcome) for number, outcome in enumerate(outcomes)]
    summary = summary_of(samples, Slo(99, 50))
    assert sum(summary["counts"].values()) == summary["planned"] == len(outcomes)
    assert summary["good_rps"] <= summary["achieved_rps"] <= summary["planned_rps"]
    json.dumps(summary, allow_nan=False)


def test_an_objective_without_enough_requests_is_not_judged() -> None:
    summary = summary_of(steady(99), Slo(99, 50))
    assert (summary["slo"]["met"], summary["slo"]["needed"]) == (None, 100)
    wrong = sample(5, outcome=Outcome.WRONG_PREDICTION, prediction="daisy")
    assert exit_code_from_summary(summary_of([*steady(90), wrong], Slo(99, 50))) == 1


def test_who_is_in_the_percentiles() -> None:
    samples = [
        sample(0, 10),
        sample(1, 20, Outcome.WRONG_PREDICTION),
        sample(2, 30, Outcome.HTTP_ERROR),
        sample(3, 10_000, Outcome.TIMEOUT),
        sample(4, 1, Outcome.CONNECTION_ERROR),
        sample(5, outcome=Outcome.MISSED),
    ]
    intended = summary_of(samples)["intended"]
    assert intended["n"] == 4
    assert intended["p50_ms"] == pytest.approx(20)
    assert intended["max_ms"] == pytest.approx(10_000)


def test_intended_latency_includes_what_the_generator_held_back() -> None:
    late = [replace(one, sent_s=one.planned_s + 0.015) for one in steady()]
    summary = summary_of(late)
    assert summary["intended"]["p50_ms"] == pytest.approx(20)
    assert summary["service"]["p50_ms"] == pytest.approx(5)
    assert summary["dispatch_lateness"] == {"p50_ms": 15.0, "p99_ms": 15.0, "max_ms": 15.0}


def test_a_service_that_falls_behind_does_not_achieve_the_plan() -> None:
    # 10/s served of 20/s planned: the n-th reply comes at n / 10 s.
    samples = [sample(n / 20, 100 + (n / 10 - n / 20) * 1000) for n in range(200)]
    summary = summary_of(samples)
    assert summary["achieved_rps"] == pytest.approx(10, abs=0.2)
    assert any("did not keep up" in warning for warning in summary["warnings"])


def test_a_slow_but_steady_service_achieves_the_plan() -> None:
    assert summary_of(steady(latency_ms=3000))["achieved_rps"] == 20


def test_wrong_answers_fail_the_run_and_the_first_is_named() -> None:
    wrong = sample(5, outcome=Outcome.WRONG_PREDICTION, prediction="daisy", request_id="r7")
    summary = summary_of([*steady(), wrong])
    assert summary["answers"]["wrong"] == 1
    assert summary["answers"]["checked"] == 201
    assert summary["warnings"] == [
        "Wrong predictions: 1; the first: a.png gave 'daisy' instead of 'roses' (request r7)."
    ]
    assert exit_code_from_summary(summary) == 1


@pytest.mark.parametrize(
    ("samples", "slo", "stopped_by", "code"),
    [
        (steady(), Slo(99, 19), None, 1),
        (steady(), Slo(99, 21), None, 0),
        (steady(99), Slo(99, 21), None, 3),
        (steady(99), Slo(99, 19), None, 1),
        ([sample(0, outcome=Outcome.HTTP_ERROR)], None, None, 1),
        (steady(), Slo(99, 19), "SIGINT", 75),
        ([], None, "SIGTERM", 75),
    ],
)
def test_exit_codes(samples: Any, slo: Slo | None, stopped_by: str | None, code: int) -> None:
    assert exit_code_from_summary(summary_of(samples, slo, stopped_by=stopped_by)) == code


SLOW_SEND = [replace(one, sent_s=one.planned_s + 0.002) for one in steady()]
OTHER_MODEL = ReplyModel("stub", "1", "sha256:other", "tensorrt-fp16")


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (summary_of(steady(99)), "99 timed requests are too few for a p99: 100 or more"),
        (summary_of(steady(), Slo(99.9, 50)), "too few for a p99.9: 1000 or more"),
        (summary_of(SLOW_SEND), "sent late: p99 2.00 ms, above 1.00 ms"),
        (summary_of(SLOW_SEND, Slo(99, 30)), "sent late: p99 2.00 ms, above 1.50 ms"),
        (summary_of(steady(), cpu_share=0.8), "used 80% of its core, above 70%"),
        (summary_of(steady(), stopped_by="SIGINT", abandoned=3), "Stopped by SIGINT after 10 s; 3"),
        (
            summary_of([*steady(), *(sample(1, outcome=Outcome.MISSED) for _ in range(5))]),
            "5 of 205 requests failed: 5 missed",
        ),
        (summary_of([*steady(), sample(1, model=OTHER_MODEL)]), "2 different models"),
    ],
)
def test_warnings(summary: dict[str, Any], text: str) -> None:
    assert any(text in warning for warning in summary["warnings"]), summary["warnings"]


def test_lateness_within_5_percent_of_the_objective_is_no_warning() -> None:
    assert summary_of(SLOW_SEND, Slo(99, 50))["warnings"] == []


def test_models_are_listed_once_each() -> None:
    summary = summary_of([*steady(), sample(1, model=OTHER_MODEL)])
    assert summary["models"] == [MODEL._asdict(), OTHER_MODEL._asdict()]

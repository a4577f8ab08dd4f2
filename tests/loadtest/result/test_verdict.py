"""The four verdicts: which load earns which, and that every place says the same word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.extras.junit import cases_from_summary, write_junit
from loadtest.generator.load_result import GeneratorReport
from loadtest.generator.outcome import Outcome, Sample
from loadtest.plan.slo import Slo
from loadtest.report.page import write_report
from loadtest.result.console_report import text_from_summary
from loadtest.result.files import write_outputs
from loadtest.result.summary import exit_code_from_summary
from loadtest.result.verdict import Status, status_of, status_of_max_rate, worst
from tests.loadtest.hand_made import sample, steady, summary_of
from tests.loadtest.stub_server import Behaviour, run_command, served, write_corpus

SLO = Slo(99, 50)
LATE = [replace(one, sent_s=one.planned_s + 0.02) for one in steady()]
REFUSED, TIMEOUT, WRONG = Outcome.CONNECTION_ERROR, Outcome.TIMEOUT, Outcome.WRONG_PREDICTION


def dies(outcome: Outcome, before: list[Sample] = LATE, at: int = 100) -> list[Sample]:
    """A late generator, and a service that is gone from the n-th request on."""
    latency_ms = 10_000 if outcome is TIMEOUT else 1
    return [
        *before[:at],
        *(sample(one.planned_s, latency_ms, outcome, sent_s=one.sent_s) for one in before[at:]),
    ]


CASES = {
    "met": (steady(), SLO, {}, "passed", 0),
    "no objective": (steady(), None, {}, "passed", 0),
    "missed": (steady(latency_ms=80), SLO, {}, "failed", 1),
    "too few": (steady(60), SLO, {}, "inconclusive", 3),
    "late": (LATE, SLO, {}, "invalid", 3),
    "late, and missed": (
        [replace(one, done_s=one.planned_s + 0.2) for one in LATE], SLO, {}, "invalid", 3,
    ),
    "late, without an objective": (LATE, None, {}, "invalid", 3),
    "busy": (steady(), SLO, {"cpu_share": 0.95}, "invalid", 3),
    "a worker is lost": (steady(), SLO, {"workers": 2, "lost_workers": 1}, "invalid", 3),
    "few, and late": (LATE[:60], SLO, {}, "invalid", 3),
    "wrong, and late": ([*LATE, sample(9.9, outcome=WRONG)], SLO, {}, "failed", 1),
    "refuses from some moment": (dies(REFUSED), SLO, {}, "failed", 1),
    "the same without an objective": (dies(REFUSED), None, {}, "failed", 1),
    "hangs from some moment": (dies(TIMEOUT), SLO, {}, "failed", 1),
    "503 from some moment": (dies(Outcome.HTTP_ERROR), None, {}, "failed", 1),
    "dies at the end": (dies(REFUSED, at=175), None, {}, "failed", 1),
    "dies, and the generator spins": (dies(REFUSED), SLO, {"cpu_share": 0.99}, "failed", 1),
    "a busy generator makes timeouts": (dies(TIMEOUT), None, {"cpu_share": 0.99}, "invalid", 3),
    "never answered": (dies(REFUSED, at=0), SLO, {}, "failed", 1),
    "never answered in time": (dies(TIMEOUT, at=0), None, {}, "failed", 1),
    "one error at the end": (dies(REFUSED, steady(), at=199), None, {}, "passed", 0),
    "errors enough to miss": (
        [*LATE, *(sample(n, outcome=Outcome.HTTP_ERROR) for n in range(9))], SLO, {}, "failed", 1,
    ),
    "stopped": (steady(), SLO, {"stopped_by": "SIGINT"}, "inconclusive", 75),
    "stopped, and late": (LATE, SLO, {"stopped_by": "SIGTERM"}, "invalid", 75),
    "out of descriptors": (
        [*steady(150), *(sample(8, outcome=Outcome.MISSED) for _ in range(50))],
        SLO,
        {"generators": [GeneratorReport(faults={"EMFILE": 50})]},
        "invalid",
        3,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("samples", "slo", "options", "word", "code"), CASES.values(), ids=list(CASES)
)
def test_one_word_everywhere(tmp_path: Path, samples, slo, options, word: str, code: int) -> None:
    summary = summary_of(samples, slo, **options)
    assert summary["verdict"] == word
    assert bool(summary["reasons"]) == (word != "passed")
    assert exit_code_from_summary(summary) == code
    last = [line for line in text_from_summary(summary).splitlines() if line[:1].strip()][-1]
    assert last.startswith(f"{word.upper():<12} ")
    write_outputs(tmp_path, summary, samples)
    page = write_report(tmp_path).read_text()
    assert f'<span class="badge">{word}</span>' in page
    write_junit(tmp_path / "j.xml", cases_from_summary(summary), verdict=status_of(summary))
    suite = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert suite.find("properties/property[@name='verdict']").get("value") == word  # type: ignore[union-attr]
    counts = {"failed": "failures", "invalid": "errors", "inconclusive": "skipped"}
    if word in counts and code != 75:
        assert int(suite.get(counts[word], "0")) > 0
    types = {one.get("type") for one in suite.iter() if one.tag in ("failure", "error", "skipped")}
    assert types <= set(Status)


def test_an_older_summary_is_judged_from_its_figures() -> None:
    summary = summary_of(dies(REFUSED), SLO)
    for key in ("verdict", "reasons", "silence"):
        del summary[key]
    assert status_of(summary) is Status.FAILED  # its errors alone miss the objective
    assert "PASSED" in text_from_summary({**summary_of(steady(), SLO)})


def test_the_worst_counts() -> None:
    order = ["passed", "inconclusive", "invalid", "failed"]
    for number, word in enumerate(order):
        assert worst(Status(one) for one in order[: number + 1]) == word
    assert [Status(word).exit_code for word in order] == [0, 3, 3, 1]


@pytest.mark.parametrize(
    ("old", "word"),
    [
        ({"rate_rps": 9.0, "note": ""}, "passed"),
        ({"rate_rps": 0, "note": ""}, "failed"),
        ({"rate_rps": 0, "note": "the generator sent late"}, "invalid"),
        ({"rate_rps": 0, "note": "stopped before the end"}, "inconclusive"),
        ({"rate_rps": 0, "note": "it went away", "verdict": "failed"}, "failed"),
    ],
)
def test_a_promise_of_before_has_a_verdict(old: dict[str, object], word: str) -> None:
    assert status_of_max_rate(old) == word


def test_words_of_older_probes_are_read(tmp_path: Path) -> None:
    samples = steady()
    write_outputs(tmp_path / "probes" / "01", summary_of(samples, SLO), samples)
    probe = {"rate": 20.0, "requests": 200, "slow": 0, "steady": True, "problem": ""}
    words = ("holds", "fails", "not shown", "invalid")
    promise = {
        "slo": {"percentile": 99.0, "target_ms": 50.0},
        **{"rate_rps": 20.0, "refused_rps": 21.0, "limit": "", "note": "", "confirmations": 3},
        "probes": [{**probe, "verdict": word} for word in words],
    }
    (tmp_path / "promise.json").write_text(json.dumps(promise))
    page = write_report(tmp_path).read_text()
    for word in ("passed", "failed", "inconclusive", "invalid"):
        assert f'<td class="words {word}">{word}' in page


@pytest.mark.e2e
@pytest.mark.parametrize(
    "flags", [("--rate", 40, "--slo", "p50=1s"), ("--mode", "closed", "--users", 3), ("--rate", 40)]
)
def test_a_service_that_dies_under_load_is_failed(
    tmp_path: Path, flags: tuple[object, ...]
) -> None:
    """Every connection is closed from the 41st request on, on a machine however busy."""
    behaviour = Behaviour(delay_s=0.01, drops=lambda number: number > 40)
    with served(behaviour) as url:
        where = (url, "--corpus", write_corpus(tmp_path), "--out", tmp_path / "out")
        done = run_command(*where, "--warmup-s", 0, "--duration-s", 3, *flags)
    assert done.returncode == 1, done.stdout
    assert "\nFAILED " in done.stdout
    assert "stopped answering at" in " ".join(done.stdout.split())

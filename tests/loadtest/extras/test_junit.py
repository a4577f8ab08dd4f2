from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.errors import LoadTestError
from loadtest.extras.junit import cases_from_max_rate, cases_from_summary, write_junit
from loadtest.generator.outcome import Outcome
from loadtest.max_rate.search import MaxRate, RateTrial
from loadtest.plan.slo import slo_from_text
from tests.loadtest.hand_made import sample, steady, summary_of

SLO = slo_from_text("p99=50ms")


def statuses(samples, **options) -> dict[str, str]:
    return {one.name: one.status for one in cases_from_summary(summary_of(samples, **options))}


def test_each_question_has_its_own_case() -> None:
    names = ("the measurement is valid", "predictions are right", "p99 <= 50 ms")
    assert statuses(steady(), slo=SLO) == dict.fromkeys(names, "passed")
    assert statuses(steady(latency_ms=80), slo=SLO)["p99 <= 50 ms"] == "failure"
    assert statuses(steady(5), slo=SLO)["p99 <= 50 ms"] == "skipped"
    assert (
        statuses([*steady(), sample(9.9, outcome=Outcome.WRONG_PREDICTION)])[names[1]] == "failure"
    )
    assert statuses(steady(), cpu_share=0.95)[names[0]] == "error"
    assert statuses(steady(), stopped_by="SIGINT")[names[0]] == "error"
    assert names[2] not in statuses(steady())


def test_a_promise_is_one_case() -> None:
    def status(**fields) -> str:
        found = MaxRate(0.01, **fields, probes=[(RateTrial(5.0, 900, 0), "holds")])
        slo = {"percentile": 99.0, "target_ms": 50.0}
        [case] = cases_from_max_rate({"slo": slo, **found.to_dict()})
        return case.status

    assert status(rate=5.0) == "passed"
    assert status() == "failure"
    assert status(note="the generator was late") == "error"


def test_the_file_counts_what_did_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "new" / "load.xml"
    cases = cases_from_summary(summary_of(steady(5), SLO, cpu_share=0.95))
    write_junit(path, cases, 10.0)
    suite = ElementTree.parse(path).getroot()
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")}
    assert counts == {
        "tests": "3", "failures": "0", "errors": "1", "skipped": "1", "time": "10.000",
    }  # fmt: skip
    [error] = suite.iter("error")
    assert "The generator used 95% of its core" in str(error.get("message"))


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LoadTestError, match=r"--junit .* cannot be written"):
        write_junit(tmp_path / "file" / "load.xml", cases_from_summary(summary_of(steady())))

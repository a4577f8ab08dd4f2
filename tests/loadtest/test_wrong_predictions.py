"""A wrong prediction, an error and an unreadable reply: infinite latency in every kind of load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.extras.compare.difference import compare_runs
from loadtest.generator.outcome import Outcome
from loadtest.max_rate.trial_folder import trial_from_folder
from loadtest.plan.slo import Slo
from loadtest.result.files import write_outputs
from loadtest.result.folder import read_runs
from tests.loadtest.hand_made import sample, steady, summary_of
from tests.loadtest.stub_server import Behaviour, run_command, served, write_corpus

SLO = Slo(95, 50)
NOT_RIGHT = [
    Outcome.WRONG_PREDICTION,
    Outcome.HTTP_ERROR,
    Outcome.TIMEOUT,
    Outcome.CONNECTION_ERROR,
]


@pytest.mark.parametrize("outcome", NOT_RIGHT)
def test_it_counts_as_endless(tmp_path: Path, outcome: Outcome) -> None:
    few = [*steady(191), *(sample(9.6 + n / 100, 1, outcome) for n in range(9))]
    many = [*steady(189), *(sample(9.5 + n / 100, 1, outcome) for n in range(11))]
    assert SLO.is_met(few) is True
    assert SLO.is_met(many) is False
    assert SLO.observed_ms(few) == pytest.approx(20)
    assert SLO.observed_ms(many) is None
    assert summary_of(many, SLO)["slo"]["met"] is False
    write_outputs(tmp_path / "a", summary_of(many, SLO), many)
    assert trial_from_folder(tmp_path / "a", SLO).slow == 11
    write_outputs(tmp_path / "b", summary_of(steady(), SLO), steady())
    errors = {
        one.name: one for one in compare_runs(*map(read_runs, (tmp_path / "b", tmp_path / "a")))
    }
    assert errors["p99 ms"].second is None  # on a request without a right prediction


def test_a_late_generator_does_not_hide_too_many_of_them(tmp_path: Path) -> None:
    """A probe whose wrong predictions alone are too many fails; it is not repeated as invalid."""
    late = [sample(n / 20, 20, sent_s=n / 20 + 0.02) for n in range(150)]
    wrong = [sample(7.5 + n / 20, 20, Outcome.WRONG_PREDICTION) for n in range(50)]
    write_outputs(tmp_path, summary_of([*late, *wrong], SLO), [*late, *wrong])
    probe = trial_from_folder(tmp_path, SLO)
    assert (probe.problem, probe.verdict(SLO.allowed)) == ("", "failed")
    write_outputs(tmp_path / "late", summary_of(late, SLO), late)
    assert "sent late" in trial_from_folder(tmp_path / "late", SLO).problem


@pytest.mark.e2e
@pytest.mark.parametrize(
    "flags",
    [
        ("--rate", 40),
        ("--scenario", "constant", "--rate", 40),
        ("--scenario", "soak", "--rate", 40),
        ("--scenario", "spike", "--rate", 20),
        ("--scenario", "offline", "--users", 4, "--requests", 120),
        ("--mode", "closed", "--users", 2),
        ("--scenario", "singlestream"),
    ],
)
@pytest.mark.parametrize("kind", ["wrong", "unreadable"])
def test_in_every_kind_of_load(tmp_path: Path, flags: tuple[object, ...], kind: str) -> None:
    """Of 25 predictions one is not right: p99 is missed whatever the latencies, p90 is not."""
    unlike = {"wrong": "daisy", "unreadable": ""}[kind]
    behaviour = Behaviour(
        label_of=lambda number: unlike if number % 25 == 7 else "roses", delay_s=0.005
    )
    with served(behaviour) as url:
        where = (url, "--corpus", write_corpus(tmp_path), "--warmup-s", 0, "--duration-s", 3)
        done = run_command(*where, "--out", tmp_path / "out", "--slo", "p99=9s", *flags)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert done.returncode == 1, done.stdout
    assert summary["counts"]["wrong_answer"] > 0
    assert summary["verdict"] == "failed"
    assert (summary["slo"]["met"], summary["slo"]["observed_ms"]) == (False, None)
    assert "p99 <= 9000 ms: FAILED" in done.stdout


@pytest.mark.e2e
def test_in_a_saturation_each_step_counts(tmp_path: Path) -> None:
    """Predictions go wrong with one client alone, and the best step is another."""
    behaviour = Behaviour(label_of=lambda number: "daisy" if number == 3 else "roses", delay_s=0.02)
    with served(behaviour) as url:
        where = (url, "--corpus", write_corpus(tmp_path), "--warmup-s", 0, "--duration-s", 0.5)
        flags = ("--out", tmp_path / "out", "--scenario", "saturation")
        done = run_command(*where, *flags)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    first, *others = summary["saturation"]["steps"]
    assert first["verdict"] == "failed"
    assert "failed" not in {step["verdict"] for step in others}
    assert (summary["verdict"], done.returncode) == ("failed", 1)
    assert "With 1 user: 1 wrong predictions" in " ".join(done.stdout.split())

"""`python -m loadtest.promise`, with loads that are written by hand instead of made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.generator.outcome import Outcome
from loadtest.max_rate import command as max_rate
from loadtest.max_rate.command import main
from loadtest.max_rate.trial_folder import trial_from_folder
from loadtest.plan.arguments import build_parser, plan_from_options
from loadtest.plan.slo import slo_from_text
from loadtest.result.files import write_outputs
from tests.loadtest.hand_made import sample, summary_of
from tests.loadtest.stub_server import write_corpus

SLO = slo_from_text("p99=50ms")


def write_load(
    folder: Path,
    rate: float,
    latencies: list[float],
    *,
    late_ms: float = 0.1,
    cpu: float = 0.2,
    outcome: str = "ok",
    capacity: float = 2e5,
) -> None:
    late = late_ms / 1000
    samples = [
        sample(n / rate, value - late_ms, Outcome(outcome), sent_s=n / rate + late)
        for n, value in enumerate(latencies)
    ]
    alone = {"capacity_rps": capacity, "rate_share": None, "lateness_p99_ms": None}
    summary = summary_of(samples, SLO, cpu_share=cpu, duration_s=len(samples) / rate)
    summary |= {"target_rps": rate, "good_rps": 100.0, "calibration": alone}
    write_outputs(folder, summary, samples)


@pytest.mark.parametrize(
    ("latencies", "options", "slow", "steady", "problem"),
    [
        ([10.0] * 900, {}, 0, True, ""),
        ([10.0] * 890 + [51.0] * 10, {}, 10, True, ""),
        ([50.0] * 900, {}, 0, True, ""),  # the limit itself is in time
        ([10.0] * 900, {"outcome": "http_error"}, 900, True, ""),
        ([10.0] * 300 + [20.0] * 300 + [40.0] * 300, {}, 0, False, ""),
        ([10.0] * 900, {"late_ms": 2.6}, 0, True, "sent late"),
        ([10.0] * 900, {"cpu": 0.95}, 0, True, "95% of its core"),
    ],
)
def test_a_probe_is_read_from_the_raw_samples(
    tmp_path: Path,
    latencies: list[float],
    options: dict[str, Any],
    slow: int,
    steady: bool,
    problem: str,
) -> None:
    write_load(tmp_path / "load", 90.0, latencies, **options)
    probe = trial_from_folder(tmp_path / "load", SLO)
    assert (probe.rate, probe.requests, probe.slow, probe.steady) == (90.0, 900, slow, steady)
    assert problem in probe.problem
    assert bool(probe.problem) == bool(problem)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A service that holds any rate up to `largest`; `stop_at` ends the n-th load by Ctrl-C."""
    state: dict[str, Any] = {"largest": 77.0, "loads": 0, "stop_at": None, "late": {}, "asked": []}

    def load(target: Any, folder: Path, arguments: list[str]) -> None:
        state["loads"] += 1
        if state["loads"] == state["stop_at"]:
            raise KeyboardInterrupt
        words = [word for word in arguments if word != "--calibrate"]
        given = dict(zip(words[::2], words[1::2], strict=True))
        state["asked"].append(arguments)
        rate = float(given.get("--rate", 100))
        n = max(900, round(rate * float(given["--duration-s"])))
        write_load(folder, rate, [10.0 if rate <= state["largest"] else 80.0] * n, **state["late"])

    monkeypatch.setattr(max_rate, "_load", load)
    return state


def search(out: Path, *more: str) -> int:
    return main(
        ["http://127.0.0.1:9", "--corpus", ".", "--out", str(out), "--slo", "p99=50ms", *more]
    )


def test_the_promise_is_printed_and_kept(
    service: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert search(out) == 0
    shown = capsys.readouterr().out
    kept = json.loads((out / "promise.json").read_text())
    assert 73 < kept["rate_rps"] <= 77 < kept["refused_rps"] < 81
    assert f"max rate     {kept['rate_rps']:.1f} requests/s at p99 <= 50 ms, shown 3 times" in shown
    assert f"not from {kept['refused_rps']:.1f} on" in shown
    assert len(kept["probes"]) == len(list((out / "probes").iterdir()))
    assert [one["verdict"] for one in kept["probes"][-3:]] == ["passed"] * 3


def test_no_more_is_tried_than_half_of_what_the_generator_manages(
    service: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service |= {"largest": 1e6, "late": {"capacity": 300.0}}
    assert search(tmp_path / "out") == 0
    kept = json.loads((tmp_path / "out" / "promise.json").read_text())
    assert (kept["rate_rps"], kept["refused_rps"]) == (150, None)
    assert "150 requests/s is 50% of what the generator manages" in kept["limit"]
    assert "nothing above was tried (150 requests/s is 50%" in capsys.readouterr().out
    assert ["--calibrate" in words for words in service["asked"]].count(True) == 1


def test_another_classifier_is_asked_its_own_way_in_every_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> int:
        asked.append(command)
        return 2

    monkeypatch.setattr(max_rate, "run_child", run)
    flags = ["--route", "/predict", "--field", "file", "--answer", "", "--header", "X-Key: a b"]
    assert search(tmp_path / "out", *flags, "--workers", "2") == 2
    (command,) = asked
    for word in ("--route=/predict", "--field=file", "--answer=", "--header=X-Key: a b"):
        assert word in command
    plan = plan_from_options(build_parser().parse_args(command[3:]), images=1)
    assert plan.target.headers == (("X-Key", "a b"),)
    assert (plan.target.answer, plan.workers, plan.users) == ("", 2, 8)


def test_a_route_that_is_none_is_refused_before_a_load(
    service: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(tmp_path / "out", "--route", "predict") == 2
    assert "--route 'predict' is not a path" in capsys.readouterr().err
    assert service["loads"] == 0


def test_a_service_that_holds_nothing(
    service: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service["largest"] = 0.0
    assert search(tmp_path / "out", "--first", "4") == 1
    assert "no rate holds p99 <= 50 ms" in capsys.readouterr().out


def test_a_late_generator_promises_nothing(
    service: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service["late"] = {"late_ms": 9.0}
    assert search(tmp_path / "out", "--first", "4") == 3
    assert "the generator sent late" in capsys.readouterr().out


def test_ctrl_c_keeps_what_ran(
    service: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service["stop_at"] = 4
    out = tmp_path / "out"
    assert search(out) == 75
    kept = json.loads((out / "promise.json").read_text())
    assert kept["note"] == "stopped before the end"
    assert kept["rate_rps"] == 0
    assert len(kept["probes"]) == 2
    assert "no max rate" in capsys.readouterr().out


def test_an_earlier_promise_is_not_overwritten(
    service: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(tmp_path / "out") == 0
    assert search(tmp_path / "out") == 2
    assert "name another --out" in capsys.readouterr().err


def test_a_service_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = write_corpus(tmp_path)
    arguments = ["http://127.0.0.1:9", "--corpus", str(corpus), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--slo", "p99=50ms"]) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: no service at http://127.0.0.1:9 (Connection refused)")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("ends_at", "code", "probes"), [(1, 2, None), (4, 1, 2)])
def test_a_service_that_goes_away(
    service: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ends_at: int,
    code: int,
    probes: int | None,
) -> None:
    """Before anything was measured nothing is written; later, what was."""
    load = max_rate._load

    def load_while_there(target: Any, folder: Path, arguments: list[str]) -> None:
        if service["loads"] + 1 == ends_at:
            raise max_rate.LoadFailedError(2)
        load(target, folder, arguments)

    monkeypatch.setattr(max_rate, "_load", load_while_there)
    out = tmp_path / "out"
    assert search(out) == code
    assert (out / "promise.json").exists() == (probes is not None)
    if probes is not None:
        kept = json.loads((out / "promise.json").read_text())
        assert kept["note"] == "the service could be loaded no more"
        assert (kept["rate_rps"], len(kept["probes"])) == (0, probes)


@pytest.mark.parametrize("first", ["0", "-3", "nan", "inf"])
def test_a_first_rate_of_nothing(
    service: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str
) -> None:
    assert search(tmp_path / "out", f"--first={first}") == 2
    assert "is not above 0; try --first 10" in capsys.readouterr().err
    assert service["loads"] == 0


def test_ctrl_c_in_the_first_load(service: dict[str, Any], tmp_path: Path) -> None:
    service["stop_at"] = 1
    assert search(tmp_path / "out") == 75
    assert "No max rate can be given" in (tmp_path / "out" / "report.html").read_text()


def test_an_objective_without_a_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["http://127.0.0.1:9", "--corpus", ".", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--slo", "p99=50"]) == 2
    assert "has no unit" in capsys.readouterr().err

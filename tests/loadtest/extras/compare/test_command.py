"""Two results beside one another: what is the same, what is shown, what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from loadtest.extras.compare.command import differing_fields, main
from loadtest.extras.compare.difference import compare_runs
from loadtest.generator.outcome import Outcome
from loadtest.max_rate.search import MaxRate, RateTrial
from loadtest.result.files import write_outputs
from loadtest.result.folder import read_runs
from tests.loadtest.hand_made import sample, steady, summary_of


def write_run(
    folder: Path,
    *,
    mean_ms: float = 20.0,
    failed: float = 0.0,
    seed: int = 0,
    **environment: Any,
) -> Path:
    """Ten seconds at 20 requests a second, of exponential latency."""
    rng = random.Random(seed)
    samples = [
        sample(
            number / 20,
            rng.expovariate(1 / mean_ms),
            Outcome.HTTP_ERROR if rng.random() < failed else Outcome.OK,
        )
        for number in range(200)
    ]
    summary = summary_of(samples)
    summary["environment"] |= environment
    write_outputs(folder, summary, samples)
    return folder


def verdicts(first: Path, second: Path) -> dict[str, str]:
    found = compare_runs(read_runs(first), read_runs(second))
    return {one.name: one.verdict for one in found}


def test_a_slower_service_is_told_apart_and_the_same_one_is_not(tmp_path: Path, capsys) -> None:
    first = write_run(tmp_path / "a")
    same = write_run(tmp_path / "b", seed=1)
    slower = write_run(tmp_path / "c", mean_ms=60, seed=2)
    assert set(verdicts(first, same).values()) == {"no difference shown"}
    assert verdicts(first, slower)["p50 ms"] == "worse"
    assert verdicts(slower, first)["p99 ms"] == "better"
    assert main([str(first), str(same)]) == 0
    assert "intervals over tenths" in capsys.readouterr().out
    assert main([str(first), str(slower)]) == 1


def test_more_errors_are_worse(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a")
    failing = write_run(tmp_path / "b", failed=0.3)
    found = verdicts(first, failing)
    assert found["errors %"] == found["good/s"] == "worse"
    assert main([str(failing), str(first)]) == 0


def test_repeats_are_resampled_whole(tmp_path: Path, capsys) -> None:
    """Repeats that differ among themselves show less than one of them would."""
    for number, mean_ms in enumerate((10, 40, 10, 40)):
        write_run(tmp_path / "a" / str(number), mean_ms=mean_ms, seed=number)
        write_run(tmp_path / "b" / str(number), mean_ms=50 - mean_ms, seed=9 + number)
    assert verdicts(tmp_path / "a" / "0", tmp_path / "b" / "0")["p50 ms"] == "worse"
    assert verdicts(tmp_path / "a", tmp_path / "b")["p50 ms"] == "no difference shown"
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "intervals over repeats" in capsys.readouterr().out


def test_a_percentile_without_an_answer_is_not_made_up(tmp_path: Path, capsys) -> None:
    first, failing = write_run(tmp_path / "a"), write_run(tmp_path / "b", failed=0.9)
    assert main([str(first), str(failing)]) == 1
    assert "not known: it falls on requests without an answer" in capsys.readouterr().out


def test_another_machine_is_refused_by_name_unless_forced(tmp_path: Path, capsys) -> None:
    first = write_run(tmp_path / "a")
    second = write_run(tmp_path / "b", cpu_model="Another", load_average_before=[9, 9, 9])
    assert main([str(first), str(second)]) == 2
    assert "different environment.cpu_model: A processor, Another" in capsys.readouterr().err
    assert main([str(first), str(second), "--force"]) == 0
    assert "warning: different environment.cpu_model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"target_rps": 21.0}, "target_rps: 20.0, 21.0"),
        ({"scenario": "constant"}, "scenario: server, constant"),
        ({"workers": 2}, "workers: 1, 2"),
        ({"corpus": {"sha256": "0" * 64}}, "corpus.sha256"),
        ({"service_process": {"pinned_cores": [0]}}, "cores of service: null, [0]"),
    ],
)
def test_another_load_is_named(change: dict[str, Any], named: str) -> None:
    summary = summary_of(steady())
    assert not differing_fields(summary, summary | {"duration_s": summary["duration_s"] * 1.001})
    [found] = differing_fields(summary, summary | change)
    assert found.startswith(named)


def test_an_invalid_run_is_refused(tmp_path: Path, capsys) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    path = second / "summary.json"
    summary = json.loads(path.read_text())
    summary["validity"]["valid"] = False
    path.write_text(json.dumps(summary))
    assert main([str(first), str(second)]) == 2
    assert "is invalid: it shows its generator" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "summary.json").unlink(), "holds no results"),
        (lambda folder: (folder / "summary.json").write_text("[]"), "missing or damaged"),
        (lambda folder: (folder / "samples.csv").unlink(), "missing or damaged"),
        (lambda folder: (folder / "samples.csv").write_text("x\n1\n"), "missing or damaged"),
        (
            lambda folder: (folder / "samples.csv").write_text(
                "".join((folder / "samples.csv").read_text().splitlines(keepends=True)[:-1])
            ),
            "missing or damaged",
        ),
        (
            lambda folder: (folder / "summary.json").write_text('{"schema_version": 99}'),
            "schema version 99",
        ),
    ],
)
def test_damaged_results_are_one_line(tmp_path: Path, capsys, damage, message: str) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    damage(second)
    assert main([str(first), str(second)]) == 2
    assert message in capsys.readouterr().err


def write_max_rate(folder: Path, rate: float, refused: float | None, **fields: Any) -> Path:
    write_run(folder / "probes" / "01")
    found = MaxRate(0.01, rate, refused, **fields, probes=[(RateTrial(rate, 900, 0), "holds")])
    value = {"slo": {"percentile": 99.0, "target_ms": 50.0}, **found.to_dict()}
    (folder / "promise.json").write_text(json.dumps(value))
    return folder


@pytest.mark.parametrize(
    ("second", "code", "said"),
    [
        ((101, 107, ""), 0, "no difference shown"),
        ((80, 84, ""), 1, "B holds less"),
        ((120, 126, ""), 0, "B holds more"),
        ((80, 84, "the generator sent late"), 0, "no difference shown"),  # its own limit
        ((80, None, ""), 0, "at least"),
        ((0, 1, ""), 1, "B holds less"),
    ],
)
def test_promises_are_told_apart_by_their_intervals(
    tmp_path: Path, capsys, second: tuple[float, float | None, str], code: int, said: str
) -> None:
    rate, refused, limit = second
    a = write_max_rate(tmp_path / "a", 100, 105)
    b = write_max_rate(tmp_path / "b", rate, refused, limit=limit)
    assert main([str(a), str(b)]) == code
    assert said in capsys.readouterr().out


def test_promises_that_cannot_be_compared(tmp_path: Path, capsys) -> None:
    a = write_max_rate(tmp_path / "a", 100, 105)
    none = write_max_rate(tmp_path / "b", 0, None, note="the generator was late")
    assert main([str(a), str(none)]) == 3
    assert "has no max rate: the generator was late" in capsys.readouterr().err
    assert main([str(a), str(write_run(tmp_path / "c"))]) == 2
    assert "one of the two is a max rate" in capsys.readouterr().err

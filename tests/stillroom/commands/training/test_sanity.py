"""`stillroom train --sanity`: what it prints, its exit code, and that a run stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.contract.errors import GateError
from stillroom.commands.training.sanity import print_checks
from train.extras.sanity.checks import CHECKS, Check

SMALL = (
    "teacher.arch=test_resnet",
    "teacher.weights=none",
    "teacher.train_size_px=32",
    "teacher.test_size_px=0",
    "teacher.drop_rate=0.0",
    "teacher.workers=0",
    "teacher.lr=3e-3",
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_sound_training(stillroom, few_photos, tmp_path):
    outcome = stillroom("train", few_photos, "--sanity", "--run", tmp_path / "r", *SMALL)
    assert outcome.code == 0, outcome
    lines = [line for line in outcome.out.splitlines() if line.startswith("ok ")]
    assert len(lines) == len(CHECKS)
    assert all(len(line) <= 80 for line in outcome.out.splitlines())
    assert {path.name for path in (tmp_path / "r").iterdir()} >= {"data", "run.json"}
    assert not (tmp_path / "r" / "teacher").exists()


def test_a_fault_is_a_failed_gate_and_the_run_stays_as_it_is(stillroom, few_photos, tmp_path):
    run = tmp_path / "r"
    assert stillroom("audit", few_photos, "--run", run, *SMALL).code == 0
    before = files_of(run)
    outcome = stillroom("train", few_photos, "--sanity", "--run", run, "teacher.lr=1e-9")
    assert outcome.code == 1
    assert "sanity checks failed: one batch." in outcome.err
    assert "raise lr" in " ".join(outcome.out.split())
    assert files_of(run) == before


def test_bad_input_is_refused_as_by_train(stillroom, few_photos, tmp_path):
    outcome = stillroom("train", tmp_path / "none", "--sanity", "--run", tmp_path / "r")
    assert (outcome.code, "No such folder" in outcome.err) == (2, True)
    outcome = stillroom("train", few_photos, "--sanity", "teacher.archs=x")
    assert (outcome.code, "'teacher.arch'" in outcome.err) == (2, True)


def test_every_failed_check_is_named(capsys):
    checks = [Check("one", True, "Fine."), Check("two", False, "Not [so] fine.")]
    with pytest.raises(GateError, match="1 of 2 sanity checks failed: two"):
        print_checks(checks)
    assert "wrong  two  Not [so] fine." in capsys.readouterr().out

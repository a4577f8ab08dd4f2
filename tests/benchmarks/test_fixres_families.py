"""The benchmark of FixRes: its table is of what the stages wrote, and finished work is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fixres_families
from benchmarks.fixres_families import ARMS, Family, proofs_of, run, table_of
from compress.fixres_stage import RESIZED
from tests.stillroom.sweeps import fake_latency
from tests.train.toy import fast, toy_dataset
from train.evaluation import read_predictions
from train.options import TrainOptions


def test_every_family_is_a_valid_training_with_batch_norm() -> None:
    assert len(fixres_families.USUAL) >= 3
    assert set(fixres_families.USUAL) <= set(fixres_families.FAMILIES)
    for options in fixres_families.FAMILIES.values():
        assert isinstance(options, TrainOptions)
        assert options.eval_size_px == fixres_families.TRAIN_PX < fixres_families.TEST_PX


def test_the_table_is_of_the_answers_that_the_stages_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = toy_dataset(tmp_path)
    monkeypatch.setattr(fixres_families, "FAMILIES", {"test_efficientnet": fast()})
    quick = replace(fixres_families.FIXRES, test_size_px=40, epochs=1, batch_size=12)
    monkeypatch.setattr(fixres_families, "FIXRES", quick)
    monkeypatch.setattr(fixres_families, "compare_latency", fake_latency)
    (family,) = run(dataset, tmp_path / "out", 2, ["test_efficientnet"], 1)
    assert family.latency["FixRes"] == family.latency["larger size only"]
    assert [made["last_norms"] for made in family.made] == [["bn2"]] * 2
    for seed in range(2):
        resized = tmp_path / "out" / "test_efficientnet" / str(seed) / "fixres" / RESIZED
        answers = read_predictions(resized).of_split("test")
        assert np.array_equal(
            family.right["larger size only", "test"][seed], answers.predicted == answers.targets
        )
    lines = table_of([family])
    assert len(lines) == 2 + len(ARMS)
    monkeypatch.setattr(fixres_families, "train_teacher", None)
    monkeypatch.setattr(fixres_families, "fine_tune_fixres", None)
    (again,) = run(dataset, tmp_path / "out", 2, ["test_efficientnet"], 1)
    assert table_of([again]) == lines


def _family(digest_after: str) -> Family:
    none, all_ = np.zeros((3, 20), bool), np.ones((3, 20), bool)
    right = {
        (arm, split): answers
        for arm, answers in zip(ARMS, (none, none, all_), strict=True)
        for split in ("val", "test")
    }
    proof = {
        "frozen_tensors": 7,
        "frozen_digest_before": "a",
        "frozen_digest_after": digest_after,
    }
    made = [{"last_norms": ["bn"], "kept": "fixres", "proof": proof}] * 3
    latency = {"median_ms": 1.0, "q1_ms": 0.9, "q3_ms": 1.1}
    return Family("toy", right, made, dict.fromkeys(ARMS, latency))


def test_a_gain_of_everything_is_a_hundred_points() -> None:
    rows = table_of([_family("a")])[2:]
    assert "+100.0 (+100.0 to +100.0)" in rows[1]
    assert "| toy | FixRes | 100.0 % (0.0) | 100.0 % (0.0) | - | - | - | 1.00 (0.90-1.10) |" in rows


def test_digests_that_differ_are_said_to() -> None:
    (line,) = proofs_of([_family("a")])
    assert "7 other tensors equal before and after in all 3 seeds; kept in 3 of 3" in line
    (line,) = proofs_of([_family("b")])
    assert "DIFFER" in line

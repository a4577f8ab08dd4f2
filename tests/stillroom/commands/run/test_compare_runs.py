from __future__ import annotations

import numpy as np
import pytest

from serve.contract.errors import RunError
from serve.contract.manifest import write_manifest
from stillroom.commands.run.compare_runs import compare_runs
from stillroom.report.paired import paired_interval
from train.data.images import LabelledImage
from train.evaluation import Predictions, write_predictions


def write_run(folder, right, *, first: int = 0):
    """A run whose teacher is right on the images of `right`."""
    (folder / "teacher").mkdir(parents=True)
    (folder / "run.json").write_text('{"photos": "photos", "inputs": "", "chain": []}')
    photos = [
        LabelledImage(f"a/{i}.jpg", "a", "test", f"{i + first:064d}") for i in range(len(right))
    ]
    logits = np.array([[1, 0] if hit else [0, 1] for hit in right], dtype=np.float32)
    predictions = Predictions(photos, ("a", "b"), logits)
    write_predictions(folder / "teacher" / "predictions.csv", predictions)
    write_manifest(folder / "teacher", {"kind": "teacher", "parents": {}})
    return folder


def test_a_better_run_is_called_better(tmp_path, capsys):
    first = write_run(tmp_path / "one", [True] * 50 + [False] * 50)
    second = write_run(tmp_path / "two", [True] * 70 + [False] * 30)
    compare_runs(first, second)
    printed = capsys.readouterr().out
    assert "50.0 % ->  70.0 %" in printed
    assert "+20.0 points" in printed
    assert printed.rstrip().endswith("better")


def test_a_small_difference_is_not_called_one(tmp_path, capsys):
    first = write_run(tmp_path / "one", [True] * 50 + [False] * 50)
    second = write_run(tmp_path / "two", [True] * 52 + [False] * 48)
    compare_runs(first, second)
    assert "no difference shown" in capsys.readouterr().out


def test_only_images_of_both_runs_count(tmp_path, capsys):
    first = write_run(tmp_path / "one", [True] * 10)
    second = write_run(tmp_path / "two", [True] * 10, first=4)
    compare_runs(first, second)
    assert "n = 6" in capsys.readouterr().out


def test_runs_without_a_common_image_are_refused(tmp_path):
    first = write_run(tmp_path / "one", [True] * 3)
    second = write_run(tmp_path / "two", [True] * 3, first=9)
    with pytest.raises(RunError, match="no test image in common"):
        compare_runs(first, second)
    with pytest.raises(RunError, match="holds no run"):
        compare_runs(first, tmp_path / "none")


def test_a_damaged_stage_is_refused(tmp_path):
    first = write_run(tmp_path / "one", [True] * 3)
    second = write_run(tmp_path / "two", [True] * 3)
    (second / "teacher" / "predictions.csv").write_text("path,sha256\n")
    with pytest.raises(RunError, match=r"teacher cannot be compared: damaged: predictions\.csv"):
        compare_runs(first, second)


def test_the_interval_covers_the_difference_and_shrinks_with_n():
    before = np.array([True, False, True, True] * 25)
    after = np.array([True, True, True, False] * 25)
    low, high = paired_interval(before, after)
    assert low < 0 < high
    wider = paired_interval(before[:20], after[:20])
    assert wider[1] - wider[0] > high - low
    assert paired_interval(before, before) == (0.0, 0.0)

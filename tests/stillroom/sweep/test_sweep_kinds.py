"""Backbones, learning curve and resolution, from the command to the page."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from serve.contract.errors import DatasetError, Interrupted, UsageError
from stillroom.sweep import cells
from stillroom.sweep.backbones.run import BackbonesRequest, compare_backbones
from stillroom.sweep.learning_curve.run import CurveRequest, draw_learning_curve
from stillroom.sweep.resolution.run import ResolutionRequest, sweep_resolution
from stillroom.sweep.subject import judged_without_test
from stillroom.sweep.trial import read_outcome, train_trial
from tests.stillroom.sweeps import OPTIONS, copy_run, dataset_of, fake_latency, make_run, rows_of
from tests.train.toy import draw, fast
from train.data.dataset import Dataset

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("kinds"))


@pytest.fixture
def run(made, tmp_path) -> Path:
    return copy_run(made, tmp_path)


@pytest.fixture
def quick_latency(monkeypatch):
    for kind in ("backbones", "resolution"):
        monkeypatch.setattr(f"stillroom.sweep.{kind}.run.compare_latency", fake_latency)


def resolution_of(run: Path, **changes: object) -> ResolutionRequest:
    given = {"train_sizes": "24,32", "test_sizes": "24,32,40", **changes}
    return ResolutionRequest(run, OPTIONS, **given)  # type: ignore[arg-type]


def test_every_train_size_is_tested_at_every_test_size(run, quick_latency):
    page = sweep_resolution(resolution_of(run)).read_text()
    rows = rows_of(run, "resolution")
    pairs = [(row["train_size_px"], row["test_size_px"]) for row in rows]
    assert pairs == [(a, b) for a in ("24", "32") for b in ("24", "32", "40")]
    results = json.loads((run / "sweep" / "resolution" / "results.json").read_bytes())
    assert results["schema_version"] == "1.0"
    assert results["best"]["val_top1"] == max(row["val_top1"] for row in results["rows"])
    best = results["best"]
    assert best["ratio"] == pytest.approx(best["test_size_px"] / best["train_size_px"], abs=1e-4)
    for row in results["rows"]:
        assert (row["minus_equal"] is None) == (row["train_size_px"] == row["test_size_px"])
    by_size = {(row["train_size_px"], row["test_size_px"]): row["flops"] for row in rows}
    assert by_size["24", "40"] == by_size["32", "40"] != by_size["24", "24"]
    assert "test images were taken out" in page
    kept = list((run / "sweep" / "resolution").glob("trials/*/checkpoint.json"))
    assert [path.parent.name for path in kept] == [str(best["trial"])]
    sweep_resolution(resolution_of(run))  # of what is kept: nothing is trained or measured again
    assert rows_of(run, "resolution") == rows


def test_a_test_size_is_seen_through_the_serving_preprocess(run, quick_latency):
    """The answers at the train size are those of the trial itself, and of no other size."""
    sweep_resolution(resolution_of(run, train_sizes="32"))
    trial = run / "sweep" / "resolution" / "trials" / "0"
    same = (trial / "predictions-32.csv").read_text()
    assert same == (trial / "predictions.csv").read_text()
    assert same != (trial / "predictions-40.csv").read_text()


def test_sizes_that_cannot_be_are_refused_before_training(run, monkeypatch):
    monkeypatch.setattr("stillroom.sweep.cells.train_trial", None)
    with pytest.raises(UsageError, match="--test-sizes: 4 is not between 16 and 4096"):
        sweep_resolution(resolution_of(run, test_sizes="4"))
    with pytest.raises(UsageError, match=r"teacher\.head is linear"):
        sweep_resolution(resolution_of(run, widths="1024"))
    fixed = replace(resolution_of(run), overrides=(*OPTIONS, "teacher.arch=test_vit3"))
    with pytest.raises(UsageError, match="built for one size"):
        sweep_resolution(replace(fixed, train_sizes="32", test_sizes="32,48"))
    assert not (run / "sweep").exists()


def backbones_of(run: Path, **changes: object) -> BackbonesRequest:
    given = {"archs": "test_efficientnet,test_resnet:none", **changes}
    return BackbonesRequest(run, OPTIONS, **given)  # type: ignore[arg-type]


def test_backbones_are_compared_with_equal_epochs(run, quick_latency):
    page = compare_backbones(backbones_of(run)).read_text()
    rows = rows_of(run, "backbones")
    assert [row["arch"] for row in rows] == ["test_efficientnet", "test_resnet"]
    assert {row["epochs"] for row in rows} == {"2"}
    assert rows[0]["parameters"] != rows[1]["parameters"]
    assert sorted(row["behind_p"] == "" for row in rows) == [False, True]
    assert "equal epochs" in page
    assert "test_resnet" in page


def test_backbones_are_compared_with_equal_seconds(run, quick_latency, monkeypatch):
    speeds = iter((0.5, 0.25))
    monkeypatch.setattr("stillroom.sweep.backbones.budget._timed", lambda *_: (next(speeds), 0.0))
    page = compare_backbones(backbones_of(run, budget_s=1.0)).read_text()
    assert [row["epochs"] for row in rows_of(run, "backbones")] == ["2", "4"]
    assert "equal time: 1 s" in page


def test_an_unknown_backbone_is_refused_before_training(run, monkeypatch):
    monkeypatch.setattr("stillroom.sweep.cells.train_trial", None)
    with pytest.raises(UsageError, match=r"timm .* has no model 'resnet19'"):
        compare_backbones(backbones_of(run, archs="test_resnet,resnet19"))
    with pytest.raises(UsageError, match="different values"):
        compare_backbones(backbones_of(run, archs="test_resnet,test_resnet"))
    assert not (run / "sweep").exists()


def test_a_learning_curve_answers(run):
    request = CurveRequest(run, OPTIONS, "34,67,100", seeds=2)
    page = draw_learning_curve(request).read_text()
    rows = rows_of(run, "learning-curve")
    photos = [int(row["train_photos"]) for row in rows]
    assert photos == sorted(photos)
    assert [len(row["seeds"].split()) for row in rows] == [2, 2, 2]
    results = json.loads((run / "sweep" / "learning-curve" / "results.json").read_bytes())
    assert results["answer"] in ("yes", "hardly", "perhaps")
    assert results["sentences"][0] in page.replace("&#39;", "'")
    with pytest.raises(UsageError, match="3 or more, the last one 100"):
        draw_learning_curve(replace(request, percents="10,50"))
    with pytest.raises(UsageError, match="expected steps or epochs"):
        draw_learning_curve(replace(request, equal="time"))


def test_a_stopped_sweep_goes_on_where_it_was(run, quick_latency, monkeypatch):
    real, trained = cells.train_trial, []

    def stop_in_the_second(folder, *arguments, **options):
        trained.append(folder.name)
        if folder.name == "1":
            options["listen"] = lambda _: os.kill(os.getpid(), signal.SIGINT)
        return real(folder, *arguments, **options)

    monkeypatch.setattr(cells, "train_trial", stop_in_the_second)
    with pytest.raises(Interrupted, match="Run the same command again"):
        sweep_resolution(resolution_of(run))
    folder = run / "sweep" / "resolution"
    first = (folder / "trials" / "0" / "trial.json").read_bytes()
    assert not (folder / "results.json").exists()
    monkeypatch.setattr(cells, "train_trial", real)
    sweep_resolution(resolution_of(run))
    assert (folder / "trials" / "0" / "trial.json").read_bytes() == first
    assert len(rows_of(run, "resolution")) == 6
    assert trained == ["0", "1"]


@pytest.fixture
def with_other_test_photographs(tmp_path) -> tuple[Path, Path]:
    """Two datasets that differ in their test images alone."""
    roots = []
    for first in (500, 900):
        root = tmp_path / str(first) / "photos"
        for split, seeds in (
            ("train", range(12)),
            ("val", range(100, 106)),
            ("test", range(first, first + 5)),
        ):
            for kind, label in enumerate(("aster", "bell", "clover")):
                (root / split / label).mkdir(parents=True, exist_ok=True)
                for seed in seeds:
                    draw(kind, seed).save(root / split / label / f"{seed}.jpg", quality=92)
        roots.append(root)
    return roots[0], roots[1]


def test_the_test_split_has_no_influence(with_other_test_photographs, quick_latency, monkeypatch):
    results = []
    for root in with_other_test_photographs:
        monkeypatch.chdir(root.parent)
        request = replace(resolution_of(root, train_sizes="32"), target=root)
        sweep_resolution(request)
        folder = root.parent / "runs" / "photos" / "sweep" / "resolution"
        answers = [path.read_bytes() for path in sorted(folder.glob("trials/0/predictions*.csv"))]
        results.append((rows_of(root.parent / "runs" / "photos", "resolution"), answers))
        assert b",test," not in b"".join(answers)
    assert results[0] == results[1]


def test_no_sweep_holds_a_test_photograph(run):
    dataset = dataset_of(run)
    assert {photo.split for photo in dataset.photos} == {"train", "val"}
    with_test = replace(dataset, photos=[*dataset.photos, replace(dataset.photos[0], split="test")])
    with pytest.raises(AssertionError, match="handed test images"):
        train_trial(run / "trial", with_test, fast(), seed=0)
    assert judged_without_test(with_test) == dataset


def test_without_val_there_is_nothing_to_judge_on(run):
    dataset: Dataset = dataset_of(run)
    with pytest.raises(DatasetError, match="there are none"):
        judged_without_test(replace(dataset, photos=dataset.of_split("train")))


def test_an_outcome_of_other_options_is_not_taken_for_this_one(run, tmp_path):
    dataset = dataset_of(run)
    small = replace(
        dataset, photos=[p for p in dataset.photos if p.split == "val" or p.path[-5] < "5"]
    )
    one = train_trial(tmp_path / "t", small, fast(epochs=1), seed=0)
    assert train_trial(tmp_path / "t", small, fast(epochs=1), seed=0) == one
    assert read_outcome(tmp_path / "t", "another key") is None
    two = train_trial(tmp_path / "t", small, fast(epochs=2), seed=0)
    assert two.epochs == 2


@pytest.mark.parametrize("command", ["search", "backbones", "learning-curve", "resolution"])
def test_each_help_has_an_example_and_few_options(stillroom, command):
    done = stillroom("sweep", command, "--help")
    assert f"Example: stillroom sweep {command}" in done.out
    assert 1 < done.out.count("  --") <= 7  # six and --help


def test_the_real_latency_is_measured(run, stillroom):
    sizes = ("--train-sizes", "24", "--test-sizes", "32")
    done = stillroom("sweep", "resolution", run, *OPTIONS, "teacher.epochs=1", *sizes)
    assert done.code == 0, done.err
    rows = json.loads((run / "sweep" / "resolution" / "results.json").read_bytes())["rows"]
    assert 0 < rows[0]["latency_q1_ms"] <= rows[0]["latency_ms"] <= rows[0]["latency_q3_ms"]

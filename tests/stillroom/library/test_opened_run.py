from __future__ import annotations

import pytest

import stillroom
from serve.contract.errors import RunError, UsageError
from train.evaluation import read_predictions


@pytest.fixture(scope="module")
def run(unpacked_old_run):
    return stillroom.open_run(str(unpacked_old_run / "run"))


def test_stages_with_their_states(run):
    stages = {stage.name: stage for stage in run.stages}
    assert stages["fixres"].state == "done"
    assert stages["fixres"].folder == run.path / "fixres"
    assert len(stages["fixres"].digest) == 64
    assert stages["report"].state == "not built yet"
    assert stages["ablation"].state == "not asked for"


def test_figures_and_artifact(run):
    assert 0 <= run.metrics("fixres")["test_top1"] <= 1
    assert run.metrics("train") == run.metrics("teacher")  # the command line's other name
    assert run.artifact.labels == ("0", "1", "2")


def test_predictions_of_a_stage(run):
    rows = run.predictions("student")
    stored = read_predictions(run.path / "student" / "predictions.csv")
    assert [row.image for row in rows] == [image.path for image in stored.photos]
    assert [row.label for row in rows] == [stored.labels[i] for i in stored.predicted]
    test = run.predictions("student", split="test", top_k=1)
    assert {row.split for row in test} == {"test"}
    top1 = sum(row.correct for row in test) / len(test)
    assert top1 == pytest.approx(run.metrics("student")["test_top1"])
    assert {len(row.labels) for row in test} == {1}


def test_what_is_not_there_says_how_to_build_it(run, tmp_path):
    with pytest.raises(RunError, match="--until report"):
        run.metrics("report")
    with pytest.raises(RunError, match="holds no export with such results"):
        run.predictions("export")
    with pytest.raises(UsageError, match="No stage 'teachr'"):
        run.metrics("teachr")
    with pytest.raises(RunError, match="holds no run"):
        stillroom.open_run(tmp_path)

"""A run and an artifact of commit 404c1f5 still verify, serve, load and resume."""

from __future__ import annotations

import shutil

import pytest

import stillroom as library
from serve.client import classify
from serve.process.launch import running_server
from stillroom.run.folder import RunFolder

BUILT = ("audit", "teacher", "student", "fixres", "export", "http")


def test_verify_finds_every_byte_as_it_was(stillroom, old_run):
    outcome = stillroom("verify", old_run / "run")
    assert outcome.code == 0, outcome.err
    for name in ("photos", "recipe", *BUILT, "frozen", "golden"):
        assert f"ok   {name}" in outcome.out, outcome.out
    assert "FAIL" not in outcome.out


def test_status_calls_nothing_stale(stillroom, old_run):
    outcome = stillroom("status", old_run / "run")
    assert outcome.code == 0, outcome.err
    states = {line.split()[0]: line for line in outcome.out.splitlines()[1:]}
    for name in BUILT:
        assert "done" in states[name], outcome.out
    assert "half done: goes on at step 4" in states["baseline"]


def test_predict_and_the_library_give_one_prediction(stillroom, old_run):
    image = old_run / "photos" / "1" / "01.jpg"
    outcome = stillroom("predict", old_run / "run", image)
    assert outcome.code == 0, outcome.err
    with library.load(old_run / "run" / "artifact") as model:
        found = model.predict(image)
    assert f"{found.label} {found.probability:.3f}" in outcome.out


@pytest.mark.e2e
def test_it_is_served(unpacked_old_run, tmp_path):
    image = unpacked_old_run / "photos" / "1" / "01.jpg"
    with library.load(unpacked_old_run / "run") as model:
        found = model.predict(image)
    artifact = unpacked_old_run / "run" / "artifact"
    with running_server(artifact, log_path=tmp_path / "log") as url:
        best = classify(url, image.read_bytes())["predictions"][0]
    assert best["label"] == found.label
    assert best["probability"] == pytest.approx(found.probability, abs=1e-5)


def test_run_goes_on_where_it_was_stopped(stillroom, old_run):
    """Nothing that is done is built again, and the half-done training goes on from its step."""
    run = RunFolder(old_run / "run")
    digests = {name: run.manifest(name)["digest"] for name in ("data", "teacher", "student")}
    outcome = stillroom("run", old_run / "photos", "--run", run.path, "--until", "baseline")
    assert outcome.code == 0, outcome.err
    assert "audit: done" in outcome.err
    assert "epoch 2/2" in outcome.err
    assert "epoch 1/2" not in outcome.err
    assert run.manifest("baseline")["metrics"]["parameters"] > 0
    assert digests == {name: run.manifest(name)["digest"] for name in digests}


def test_another_option_says_what_is_stale_and_why(stillroom, old_run):
    run = old_run / "run"
    shutil.rmtree(run / ".baseline.work")
    outcome = stillroom("run", old_run / "photos", "--run", run, "--until", "audit", "data.seed=1")
    assert outcome.code == 2
    outcome = stillroom(
        *("run", old_run / "photos", "--run", run, "--until", "audit", "student.epochs=3")
    )
    assert outcome.code == 0, outcome.err
    assert "makes student, fixres, export, http" in outcome.err
    assert "stale" in outcome.err

"""Shards in place of a folder, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve.contract.manifest import read_manifest
from stillroom.run.stages.load import write_corpus
from tests.stillroom.conftest import TINY
from tests.stillroom.test_cli_errors import assert_refused
from tests.train.shards import pack, serving
from train.data.images import read_index
from train.data.shards.source import ShardSource
from train.data.source import root_of
from train.evaluation import read_predictions

pytestmark = pytest.mark.e2e


@pytest.fixture
def pattern(few_photos: Path) -> str:
    """3 shards of 8 images, next to the folder they were packed from."""
    return pack(few_photos, few_photos.parent / "few", 3, name="train-")


OPTIONS = (*TINY, "teacher.batch_size=6", "teacher.epochs=1", "data.val_fraction=0.2")


def test_a_teacher_is_trained_from_shards_and_its_run_finds_them_again(
    stillroom, pattern, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    relative = str(Path(pattern).relative_to(tmp_path))
    outcome = stillroom("train", relative, *OPTIONS)
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs" / "few"
    assert json.loads((run / "run.json").read_bytes())["photos"] == pattern
    index = read_index(run / "data" / "index.csv")
    assert len(index) == 24
    assert {photo.path.split("/")[0] for photo in index} == {f"train-00{n}.tar" for n in range(3)}
    assert {photo.split for photo in index} == {"train", "val", "test"}
    again = stillroom("train", relative, *OPTIONS)
    assert "teacher: done" in again.err
    assert "built" not in again.err
    assert stillroom("verify", run).code == 0
    page = stillroom("evaluate", run)
    assert page.code == 0, page.err
    (Path(pattern).parent / "train-001.tar").unlink()
    gone = stillroom("verify", run)
    assert gone.code == 1
    assert "train-001.tar is not there" in gone.err


def test_the_same_shards_over_http_give_the_same_teacher(stillroom, pattern, tmp_path):
    with serving(Path(pattern).parent) as server:
        url = f"{server.url}/{Path(pattern).name}"
        for run, photos in (("local", pattern), ("remote", url)):
            outcome = stillroom("train", photos, "--run", tmp_path / run, *OPTIONS)
            assert outcome.code == 0, outcome.err
        assert json.loads((tmp_path / "remote" / "run.json").read_bytes())["photos"] == url
        local, remote = (read_manifest(tmp_path / run / "teacher") for run in ("local", "remote"))
        name = "checkpoint.safetensors"
        assert local["files"][name] == remote["files"][name]
        server.failures = {f"train-00{n}.tar": ["gone"] * 99 for n in range(3)}
        other = stillroom("audit", url.replace("{000", "{001"), "--run", tmp_path / "other")
        assert_refused(other, "the server refuses it", "Check the address")
        assert not (tmp_path / "other").exists()


def test_the_corpus_of_a_load_test_is_written_out(stillroom, pattern, tmp_path):
    assert stillroom("train", pattern, "--run", tmp_path / "run", *OPTIONS).code == 0
    predictions = read_predictions(tmp_path / "run" / "teacher" / "predictions.csv")
    test = predictions.of_split("test")
    corpus = write_corpus(tmp_path, root_of(ShardSource(pattern)), test)
    names = [line.split(",")[0] for line in corpus.read_text().splitlines()[1:]]
    assert len(names) == len(test.photos)
    assert all((tmp_path / name).read_bytes()[:2] == b"\xff\xd8" for name in names)


@pytest.mark.parametrize(
    ("photos", "expected"),
    [
        (
            "none-{000..003}.tar",
            ("none-000.tar is not there, nor are 3 others", "ranges in braces"),
        ),
        ("", ("is empty", "train-{000000..000009}.tar")),
        ("a.tgz", ("is compressed", "plain .tar")),
    ],
)
def test_shards_that_are_none_leave_no_run_behind(stillroom, tmp_path, photos, expected):
    outcome = stillroom("train", photos, "--run", tmp_path / "r")
    (said,) = outcome.err.strip().splitlines()
    assert outcome.code == 2
    assert said.startswith("error: ")
    assert all(text in said for text in expected)
    assert not (tmp_path / "r").exists()


def test_without_the_library_the_extra_is_named(stillroom, pattern, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "webdataset.shardlists", None)
    outcome = stillroom("audit", pattern, "--run", tmp_path / "r")
    assert_refused(outcome, "needs webdataset", "shards")

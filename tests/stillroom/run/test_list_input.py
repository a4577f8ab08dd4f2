"""A list file in place of a folder, through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.stillroom.test_cli_errors import assert_refused
from train.data.images import read_index


@pytest.fixture
def summer(few_photos: Path) -> Path:
    """photos/summer.csv: the classes of the folders under other names, one image outside."""
    outside = few_photos.parent / "outside, é.jpg"
    (few_photos / "red" / "000.jpg").rename(outside)
    file = few_photos / "summer.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(("path", "label"))
        rows.writerow((outside, 'a "red", warm'))
        for path in sorted(few_photos.rglob("*.jpg")):
            label = 'a "red", warm' if path.parent.name == "red" else path.parent.name
            rows.writerow((path.relative_to(few_photos), label))
    return file


@pytest.fixture
def audited(stillroom, summer, monkeypatch) -> Path:
    """The run of that list, under its default name."""
    monkeypatch.chdir(summer.parents[1])
    outcome = stillroom("audit", "photos/summer.csv", "data.test_fraction=0.3")
    assert outcome.code == 0, outcome.err
    return Path("runs/summer").resolve()


def test_a_list_is_audited_under_its_own_name(audited, summer):
    photos = read_index(audited / "data" / "index.csv")
    assert len(photos) == 24
    assert {p.label for p in photos} == {"blue", "green", 'a "red", warm'}
    assert photos[0].path == "../outside, é.jpg"
    assert json.loads((audited / "run.json").read_bytes())["photos"] == str(summer.resolve())


def test_a_run_finds_its_list_again_and_sees_when_it_changes(stillroom, audited, summer):
    def state() -> str:
        out = stillroom("status", audited).out
        return next(line for line in out.splitlines() if line.startswith("audit"))

    assert " done " in state()
    assert stillroom("verify", audited).code == 0
    text = summer.read_text(encoding="utf-8")
    header, *lines = text.splitlines()
    summer.write_text("\n".join([header, *reversed(lines)]))
    assert " done " in state()  # the order of lines means nothing
    summer.write_text(text.replace("green/003.jpg,green", "green/003.jpg,blue"))
    assert "inputs or options changed" in state()
    assert stillroom("verify", audited).code == 1
    assert stillroom("audit", summer, "--run", audited).code == 0
    assert " done " in state()
    labels = {p.path: p.label for p in read_index(audited / "data" / "index.csv")}
    assert labels["green/003.jpg"] == "blue"


def test_a_line_that_breaks_later_is_named(stillroom, audited, summer):
    (summer.parent / "blue" / "005.jpg").unlink()
    outcome = stillroom("verify", audited)
    assert outcome.code == 1
    assert "summer.csv, line 8: the image 'blue/005.jpg' is not there" in outcome.err


def test_an_image_of_0_bytes_is_named_by_line_or_skipped(stillroom, summer, tmp_path):
    (summer.parent / "blue" / "005.jpg").write_bytes(b"")
    run = ("audit", summer, "--run", tmp_path / "r")
    found = stillroom(*run)
    assert found.code == 0, found.err
    assert "blue/005.jpg: The body holds no bytes (" in found.out
    assert "summer.csv, line 8)" in found.out
    assert_refused(stillroom("train", *run[1:]), "blue/005.jpg", "summer.csv, line 8")
    skipped = stillroom(*run, "data.unreadable=skip")
    assert skipped.code == 0, skipped.err
    assert "1 image" in skipped.out
    assert len(read_index(tmp_path / "r" / "data" / "index.csv")) == 23


def test_a_bad_list_leaves_no_run_behind(stillroom, summer, tmp_path):
    summer.write_text("path,lable\nblue/000.jpg,blue\n")
    outcome = stillroom("run", summer, "--run", tmp_path / "r")
    assert_refused(outcome, "summer.csv, line 1: unknown column 'lable'", "Did you mean 'label'?")
    assert not (tmp_path / "r").exists()


def test_the_lists_of_a_run_serve_as_input_in_the_folder_of_photographs(
    stillroom, few_photos, tmp_path
):
    first, second = tmp_path / "first", tmp_path / "second"
    assert stillroom("audit", few_photos, "data.test_fraction=0.3", "--run", first).code == 0
    for split in ("train", "val", "test"):
        (few_photos / f"{split}.csv").write_bytes((first / "data" / f"{split}.csv").read_bytes())
    outcome = stillroom("audit", few_photos, "data.test_fraction=0.1", "--run", second)
    assert outcome.code == 0, outcome.err
    before = read_index(first / "data" / "index.csv")
    assert read_index(second / "data" / "index.csv") == before  # the split is the lists' own


def test_parity_takes_a_list_of_images(stillroom, tiny_run, tiny_photos, tmp_path):
    index = read_index(tiny_run / "data" / "index.csv", "test")[:5]
    lines = [f"{tiny_photos / photo.path} {number}" for number, photo in enumerate(index)]
    (tmp_path / "few.txt").write_text("\n".join(lines))
    outcome = stillroom("parity", tiny_run, "--photos", tmp_path / "few.txt")
    assert outcome.code == 0, outcome.err
    assert "parity inconclusive" in outcome.out  # five images prove little
    assert "5 of 5 predictions" in outcome.out

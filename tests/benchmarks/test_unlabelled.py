"""The benchmark of few labels: what each seed may see, equal budgets, and the whole path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import unlabelled
from benchmarks.unlabelled import ARMS, Setting, few_labels, rights_of, run, steps_of
from compress.options import FixResOptions
from tests.stillroom.sweeps import fake_latency
from tests.train.toy import fast, open_dataset, write_photos
from train.data.dataset import Dataset
from train.data.images import LabelledImage

pytestmark = pytest.mark.e2e

SETTING = Setting(labels=4, unlabelled=8, steps=4, teacher_px=(40, 48), student_px=(32, 40))


@pytest.fixture
def dataset() -> Dataset:
    photos = [
        LabelledImage(f"{split}/{label}/{i:03d}.jpg", label, split, f"{split}{label}{i}")
        for split, count in (("train", 30), ("val", 10), ("test", 10))
        for label in "abc"
        for i in range(count)
    ]
    return Dataset(Path("photos"), photos)


def test_no_photograph_is_in_two_roles_and_test_stays_as_it_is(dataset: Dataset) -> None:
    few, rest = few_labels(dataset, 5, 20, seed=0)
    assert few.of_split("test") == dataset.of_split("test")
    roles = [few.of_split("train"), few.of_split("val"), few.of_split("test"), rest]
    assert [len(role) for role in roles] == [15, 15, 30, 60]
    assert len({photo.sha256 for role in roles for photo in role}) == 120
    assert all(photo.split == "train" for photo in rest)
    assert few_labels(dataset, 5, 20, seed=0) == (few, rest)
    assert few_labels(dataset, 5, 20, seed=1)[0].of_split("train") != few.of_split("train")


@pytest.mark.parametrize(("labels", "more"), [(11, 5), (5, 26)])
def test_a_class_with_too_few_photographs_is_named(
    dataset: Dataset, labels: int, more: int
) -> None:
    with pytest.raises(ValueError, match=r"a has (10 of val, not 11|30 of train, not 31)"):
        few_labels(dataset, labels, more, seed=0)


def test_the_whole_path_with_toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys = open_dataset(write_photos(tmp_path / "photos", count=40), tmp_path / "data")
    monkeypatch.setattr(unlabelled, "BATCH", 12)
    monkeypatch.setattr(unlabelled, "TEACHER", fast(epochs=1))
    monkeypatch.setattr(unlabelled, "STUDENT", fast())
    monkeypatch.setattr(unlabelled, "FIXRES", FixResOptions(epochs=1, batch_size=12))
    monkeypatch.setattr(unlabelled, "compare_latency", fake_latency)
    out = tmp_path / "out"
    lines = run(toys, SETTING, 2, out)
    assert "--labels 4 " in lines[2]
    assert "--student-px 32 40" in lines[2]
    assert "4 labelled images of each of 3 classes" in lines[4]
    assert "40 -> 48 px" in lines[4]
    assert "at 32 px, FixRes at 40" in lines[4]
    rows = lines[8:-1]
    assert [row.split(" | ")[0] for row in rows] == [
        f"| {name}" for name in ("teacher", *(arm.key for arm in ARMS))
    ]
    assert [steps_of(out / "1" / arm.folder) for arm in ARMS] == [4, 4, 4, 3, 4]
    assert rows[4].startswith("| distilled, unlabelled too | 3 | ")
    assert [float(row.split(" | ")[-1].split()[0]) for row in rows] == [1, 2, 3, 2, 2, 3]
    base, other = (rights_of(out, 2, ARMS[i].folder) for i in (0, 3))
    assert f"| {100 * (other.mean() - base.mean()):+.1f} (" in rows[4]
    assert base.shape == (2, len(toys.of_split("test")))

    monkeypatch.setattr(unlabelled, "train_teacher", pytest.fail)  # nothing is done twice
    monkeypatch.setattr(unlabelled, "fine_tune_fixres", pytest.fail)
    assert run(toys, SETTING, 2, out) == lines
    with pytest.raises(ValueError, match="name another --out"):
        run(toys, replace(SETTING, steps=5), 2, out)

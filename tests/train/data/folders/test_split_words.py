"""Which folders are splits and which are classes: by their names, by keys, or refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from serve.contract.errors import DatasetError
from train.data.source import OpenedSource, open_source
from train.options import DataOptions

CLASSES = ("cat", "dog")


def _tree(root: Path, folders: Iterable[str]) -> Path:
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(3):
            colour = (number * 40 % 256, i * 90, 7)
            Image.new("RGB", (20, 20), colour).save(root / folder / f"{number}-{i}.jpg")
    return root


def _in_each(outer: Iterable[str], inner: Iterable[str] = CLASSES) -> list[str]:
    return [f"{one}/{two}" for one in outer for two in inner]


def _read(source: OpenedSource) -> set[tuple[str, str]]:
    return {(photo.split, photo.label) for photo in source.photos}


def _pairs(splits: Iterable[str], labels: Iterable[str] = CLASSES) -> set[tuple[str, str]]:
    return {(split, label) for split in splits for label in labels}


def _refusal(root: Path, options: DataOptions | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        open_source(root, options or DataOptions())
    return str(caught.value)


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("Training", "Testing"), ("train", "test")),
        (("TRAIN", "dev", "TEST"), ("train", "val", "test")),
        (("train", "eval"), ("train", "val")),
        (("training", "Evaluation", "tst"), ("train", "val", "test")),
        (("train", "holdout"), ("train", "test")),
        (("train", "hold-out"), ("train", "test")),
        (("1_train", "2_val", "3_test"), ("train", "val", "test")),
        (("01-training", "02. Testing"), ("train", "test")),
        (("train_set", "test_set"), ("train", "test")),
        (("train-images", "test-images"), ("train", "test")),
        (("TrainImages", "TestImages"), ("train", "test")),
        (("trainset", "valset", "testset"), ("train", "val", "test")),
        (("train2017", "val2017"), ("train", "val")),
        (("flowers_train", "flowers_test"), ("train", "test")),
        (("data/train", "data/test"), ("train", "test")),
        (("My Flowers (1)/Training", "My Flowers (1)/Testing"), ("train", "test")),
        (("a/b/train", "a/b/test"), ("train", "test")),
        (("train/train", "test/test"), ("train", "test")),
        (("train/images", "test/images"), ("train", "test")),
        (("train",), ("train",)),
    ],
    ids=lambda value: "-".join(value).replace("/", "."),
)
def test_split_folders_by_any_usual_name(
    tmp_path: Path, folders: tuple[str, ...], splits: tuple[str, ...]
) -> None:
    source = open_source(_tree(tmp_path, _in_each(folders)))
    assert _read(source) == _pairs(splits)


def test_what_was_taken_for_a_split_is_said(tmp_path: Path) -> None:
    plain = open_source(_tree(tmp_path / "plain", _in_each(("train", "test"))))
    assert plain.remarks == ()
    source = open_source(_tree(tmp_path / "other", _in_each(("Training", "Testing"))))
    (remark,) = source.remarks
    assert "Testing/ is test, Training/ is train" in remark
    assert "data.splits" in remark


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (_in_each(("siteA", "siteB")), ("siteA, siteB", "data.class_level=2", "cat, dog")),
        (_in_each(("Lernen", "Probe")), ('data.splits={train = "Lernen", test = "Probe"}',)),
        (
            [*_in_each(("Lernen",), ("a", "b", "c")), *_in_each(("Probe",), ("a", "b"))],
            ("data.class_level=2", "data.class_level=1"),
        ),
        (_in_each([f"fold{n}" for n in range(5)]), ("fold3 and 1 more", "data.class_level=2")),
        (_in_each(CLASSES, ("2023", "2024")), ("data.class_level=1 where cat, dog are",)),
        (_in_each(CLASSES, ("images", "masks")), ("images, masks", "data.class_level=1")),
        (
            _in_each(CLASSES, ("train", "test")),
            ('data.splits={train = "train", test = "test"}', "data.class_level=1"),
        ),
        (_in_each(("Lernen/bilder", "Probe/bilder")), ("data.class_level=3",)),
        (_in_each(("train", "test"), _in_each(("s1", "s2"))), ("data.class_level=3",)),
        (_in_each(("train", "val", "eval")), ('val = "val", test = "eval"', "both may mean val")),
        (_in_each(("train", "test", "holdout")), ("both may mean test",)),
        ([*_in_each(("train", "test")), "extra"], ("beside them extra", "data.splits=")),
        ([*_in_each(("train",)), "extra"], ("train is called like a split", "data.splits=")),
        (_in_each(("Testing",)), ("no train folder", "data.splits=")),
        (["train", "test"], ("no class folders", "data.class_level=1")),
        (_in_each(("flower_photos",)), ("one class only", "data.class_level=2")),
    ],
)
def test_what_cannot_be_told_is_refused_and_the_keys_are_named(
    tmp_path: Path, folders: list[str], expected: tuple[str, ...]
) -> None:
    text = _refusal(_tree(tmp_path, folders))
    for part in expected:
        assert part in text


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["bus", "train"], {"bus", "train"}),
        (["dev", "ops"], {"dev", "ops"}),
        (["steam_train", "express_train"], {"steam_train", "express_train"}),
        (["test", "control"], {"test", "control"}),
        (["0", "1", "2"], {"0", "1", "2"}),
        (["train1", "train2"], {"train1", "train2"}),
        (_in_each(("dataset",)), set(CLASSES)),
    ],
)
def test_classes_that_only_look_like_splits_stay_classes(
    tmp_path: Path, folders: list[str], labels: set[str]
) -> None:
    assert _read(open_source(_tree(tmp_path, folders))) == _pairs([""], labels)


def test_nested_classes_are_said_with_their_level(tmp_path: Path) -> None:
    root = _tree(tmp_path, ["animal/cat", "animal/dog", "vehicle/car", "vehicle/bus"])
    source = open_source(root)
    assert _read(source) == _pairs([""], ("animal", "vehicle"))
    (remark,) = source.remarks
    assert "folders of level 1 (animal, vehicle)" in remark
    assert "data.class_level=2" in remark
    deeper = open_source(root, DataOptions(class_level=2))
    assert _read(deeper) == _pairs([""], ("cat", "dog", "car", "bus"))
    assert deeper.remarks == ()


@pytest.mark.parametrize(
    ("folders", "options", "expected"),
    [
        (("Lernen", "Probe"), {"splits": {"train": "Lernen", "test": "Probe"}}, ("train", "test")),
        (
            ("Training", "Testing"),
            {"splits": {"train": "Training", "test": "Testing"}, "class_level": 2},
            ("train", "test"),
        ),
        (("Training", "Testing"), {"class_level": 2}, ("train", "test")),
        (("siteA", "siteB"), {"class_level": 2}, ("",)),
        (
            ("train", "val", "eval"),
            {"splits": {"train": "train", "val": "val", "test": "eval"}},
            ("train", "val", "test"),
        ),
        (
            ("data/x", "data/y"),
            {"splits": {"train": "data/x", "test": "data/y"}},
            ("train", "test"),
        ),
        (("data/x", "data/y"), {"splits": {"train": "x", "test": "y"}}, ("train", "test")),
        (("train", "test"), {"splits": {"train": "train"}}, ("train",)),
    ],
)
def test_the_keys_say_what_names_do_not(
    tmp_path: Path, folders: tuple[str, ...], options: dict[str, object], expected: tuple[str, ...]
) -> None:
    root = _tree(tmp_path, _in_each(folders))
    source = open_source(root, DataOptions(**options))  # type: ignore[arg-type]
    assert _read(source) == _pairs(expected)


def test_splits_inside_of_classes_are_said_by_the_keys(tmp_path: Path) -> None:
    root = _tree(tmp_path, _in_each(CLASSES, ("train", "test")))
    splits = {"train": "train", "test": "test"}
    for level in (0, 1):
        source = open_source(root, DataOptions(splits=splits, class_level=level))
        assert _read(source) == _pairs(("train", "test"))
    flat = open_source(root, DataOptions(class_level=1))
    assert _read(flat) == _pairs([""])


def test_images_outside_of_named_splits_are_counted(tmp_path: Path) -> None:
    root = _tree(tmp_path, [*_in_each(("train", "test")), "extra"])
    options = DataOptions(splits={"train": "train", "test": "test"})
    source = open_source(root, options)
    assert _read(source) == _pairs(("train", "test"))
    outside = [one.path for one in source.notices if one.reason == "outside"]
    assert outside == ["extra/4-0.jpg", "extra/4-1.jpg", "extra/4-2.jpg"]


def test_keys_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    root = _tree(tmp_path, _in_each(("Lernen", "Probe")))
    text = _refusal(root, DataOptions(splits={"train": "Lernen", "test": "Prob"}))
    assert "the folder 'Prob'" in text
    assert "Probe" in text
    assert "Choose 1 to 2" in _refusal(root, DataOptions(class_level=7))
    with pytest.raises(ValueError, match="expected a folder for train"):
        DataOptions(splits={"test": "Probe"})
    with pytest.raises(ValueError, match="expected a folder for train"):
        DataOptions(splits={"train": "Lernen", "Testing": "Probe"})
    with pytest.raises(ValueError, match="a folder of its own"):
        DataOptions(splits={"train": "Lernen", "test": "Lernen"})


@pytest.mark.parametrize("word", ["Training", "dev", "EVAL", "hold-out", "tst"])
def test_the_column_split_of_a_list_knows_the_same_words(tmp_path: Path, word: str) -> None:
    root = _tree(tmp_path, CLASSES)
    rows = [f"{p.parent.name}/{p.name},{p.parent.name}" for p in sorted(root.rglob("*.jpg"))]
    lines = [
        f"{row},{word if 'g' in row[:3] and n == 5 else 'train'}" for n, row in enumerate(rows)
    ]
    (root / "all.csv").write_text("\n".join(["path,label,split", *lines]))
    expected = {"Training": "train", "dev": "val", "EVAL": "val"}.get(word, "test")
    assert open_source(root / "all.csv").photos[-1].split == expected

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.contract.errors import DatasetError
from tests.train.toy import PATIENT, toy_photos
from train.data.audit.near_duplicates import groups_of
from train.data.images import LabelledImage
from train.data.split import split_images

SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(3, 60), min_size=2)
FRACTIONS = st.floats(0.05, 0.3)


def _split(
    photos: list[LabelledImage], val: float = 0.15, test: float = 0.2, seed: int = 0
) -> list[LabelledImage]:
    return split_images(photos, val_fraction=val, test_fraction=test, seed=seed)


@PATIENT
@given(SIZES, FRACTIONS, FRACTIONS, st.integers(0, 9))
def test_every_class_is_divided_within_rounding(
    sizes: dict[str, int], val: float, test: float, seed: int
) -> None:
    photos = toy_photos(sizes)
    result = _split(photos, val, test, seed)
    assert [replace(photo, split="") for photo in result] == photos
    counts = Counter((photo.label, photo.split) for photo in result)
    for label, size in sizes.items():
        assert counts[label, "val"] == max(1, round(size * val))
        assert counts[label, "test"] == max(1, round(size * test))
        assert counts[label, "train"] >= 1


def test_the_seed_decides_and_the_order_of_files_does_not() -> None:
    photos = toy_photos({"a": 40, "b": 40})
    once = {photo.path: photo.split for photo in _split(photos)}
    assert {photo.path: photo.split for photo in _split(photos[::-1])} == once
    assert {photo.path: photo.split for photo in _split(photos, seed=1)} != once


def test_a_new_photograph_moves_few_others() -> None:
    photos = toy_photos({"a": 100, "b": 100})
    added = LabelledImage("a/new.jpg", "a", "", "f" * 64, 30, 30)
    before = {photo.path: photo.split for photo in _split(photos)}
    after = {photo.path: photo.split for photo in _split([*photos, added])}
    assert sum(before[path] != after[path] for path in before) <= 2


@PATIENT
@given(st.data())
def test_equal_files_fall_on_one_side(data: st.DataObject) -> None:
    photos = toy_photos({"a": 12, "b": 12, "c": 12})
    for i in data.draw(st.lists(st.integers(0, 35), max_size=8)):
        twin = photos[data.draw(st.integers(0, 35))]
        photos[i] = replace(photos[i], sha256=twin.sha256)  # perhaps under another label
    try:
        result = _split(photos, seed=data.draw(st.integers(0, 5)))
    except DatasetError:
        return  # so many equal files that a class is used up
    sides: dict[str, set[str]] = {}
    for photo in result:
        sides.setdefault(photo.sha256, set()).add(photo.split)
    assert all(len(splits) == 1 for splits in sides.values())


def test_given_val_and_test_folders_stay_as_they_are() -> None:
    photos = [
        replace(photo, split=("train", "val", "test")[i % 3])
        for i, photo in enumerate(toy_photos({"a": 9, "b": 9}))
    ]
    assert _split(photos) == photos


def test_a_missing_val_split_comes_out_of_train_alone() -> None:
    photos = [
        replace(photo, split="train" if i % 2 else "test")
        for i, photo in enumerate(toy_photos({"a": 40, "b": 40}))
    ]
    result = _split(photos)
    assert [p.split for p in result if p.split == "test"] == ["test"] * 40
    assert sum(p.split == "val" for p in result) == 6
    assert all(
        b.split in ("train", "val")
        for a, b in zip(photos, result, strict=True)
        if a.split == "train"
    )


@pytest.mark.parametrize(("val", "test"), [(0.0, 0.2), (0.2, 0.0), (0.5, 0.5), (1.0, 0.1)])
def test_fractions_that_leave_a_split_empty_are_named(val: float, test: float) -> None:
    with pytest.raises(DatasetError, match=f"val_fraction = {val} and test_fraction = {test}") as e:
        _split(toy_photos({"a": 9, "b": 9}), val, test)
    assert "sum to less than 1" in e.value.next_step


def test_a_class_too_small_for_three_splits_is_named() -> None:
    with pytest.raises(DatasetError, match="The class 'b' has 2 different images") as caught:
        _split(toy_photos({"a": 9, "b": 2}))
    assert "train" in caught.value.message
    assert "Add 1 or more" in caught.value.next_step


def test_copies_of_one_file_do_not_make_a_class() -> None:
    photos = toy_photos({"a": 9, "b": 9})
    photos = [replace(p, sha256="0" * 64) if p.label == "b" else p for p in photos]
    with pytest.raises(DatasetError, match="The class 'b' has 1 different image,"):
        _split(photos)


@PATIENT
@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=25), st.integers(0, 5))
def test_groups_fall_on_one_side(links: list[tuple[int, int]], seed: int) -> None:
    photos = toy_photos({"a": 30, "b": 30})
    groups = {
        photos[i].sha256: photos[group[0]].sha256 for group in groups_of(60, links) for i in group
    }
    try:
        result = split_images(
            photos, val_fraction=0.15, test_fraction=0.2, seed=seed, groups=groups
        )
    except DatasetError:
        return  # groups so large that a class is used up
    sides: dict[str, set[str]] = {}
    for photo in result:
        sides.setdefault(groups.get(photo.sha256, photo.sha256), set()).add(photo.split)
    assert all(len(splits) == 1 for splits in sides.values())


def test_a_large_group_does_not_fill_a_split_beyond_its_share() -> None:
    photos = toy_photos({"a": 100, "b": 100})
    groups = {photo.sha256: photos[0].sha256 for photo in photos[:60]}
    for seed in range(8):
        result = split_images(
            photos, val_fraction=0.15, test_fraction=0.2, seed=seed, groups=groups
        )
        counts = Counter((photo.label, photo.split) for photo in result)
        assert counts["a", "test"] == counts["b", "test"] == 20
        assert counts["a", "val"] == counts["b", "val"] == 15


def test_groups_count_as_one_image_of_a_small_class() -> None:
    photos = toy_photos({"a": 9, "b": 9})
    groups = {photo.sha256: photos[9].sha256 for photo in photos[9:]}
    words = "The class 'b' has 9 different images, and 1 where near-duplicates count as one"
    with pytest.raises(DatasetError, match=words) as caught:
        split_images(photos, val_fraction=0.15, test_fraction=0.2, seed=0, groups=groups)
    assert "data.near_duplicates=apart" in caught.value.next_step
    assert split_images(photos, val_fraction=0.15, test_fraction=0.2, seed=0)


@PATIENT
@given(
    st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13)), max_size=12),
    st.integers(1, 6),
    st.integers(0, 5),
)
def test_so_many_more_images_as_the_error_asks_for_do(
    links: list[tuple[int, int]], small: int, seed: int
) -> None:
    """Of a class that is too small, or whose images are copies of another class's."""
    photos = toy_photos({"a": 14 - small, "b": small})
    groups = {
        photos[i].sha256: photos[group[0]].sha256 for group in groups_of(14, links) for i in group
    }
    for number in range(5):  # one class after the other
        try:
            split_images(photos, val_fraction=0.15, test_fraction=0.2, seed=seed, groups=groups)
            return
        except DatasetError as error:
            label = error.message.split("'")[1]
            more = int(re.findall(r"Add (\d+) or more", error.next_step)[0])
        new = [f"f{number}{k:062d}" for k in range(more)]
        photos += [LabelledImage(f"{label}/{sha}", label, sha256=sha) for sha in new]
        again = [label]
        try:
            split_images(photos, val_fraction=0.15, test_fraction=0.2, seed=seed, groups=groups)
        except DatasetError as error:
            again.append(error.message.split("'")[1])
        assert len(set(again)) == len(again), photos
    raise AssertionError("it is never enough")

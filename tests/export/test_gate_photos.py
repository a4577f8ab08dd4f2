from __future__ import annotations

from pathlib import Path

from export.gate_photos import calibration_photos, gate_photos
from train.dataset import Dataset
from train.photos import Photo


def _dataset(train: int, val: int, test: int = 9) -> Dataset:
    splits = ["train"] * train + ["val"] * val + ["test"] * test
    photos = [
        Photo(f"{'abc'[i % 3]}/{i}.jpg", "abc"[i % 3], split, f"{i:064x}")
        for i, split in enumerate(splits)
    ]
    return Dataset(Path("photos"), photos)


def test_val_alone_decides_where_it_is_large_enough() -> None:
    dataset = _dataset(30, 12)
    assert gate_photos(dataset, 12) == dataset.of_split("val")
    assert gate_photos(dataset, 5) == dataset.of_split("val")


def test_training_photographs_are_added_class_by_class() -> None:
    dataset = _dataset(30, 12)
    photos = gate_photos(dataset, 18)
    assert photos[:12] == dataset.of_split("val")
    assert [photo.split for photo in photos[12:]] == ["train"] * 6
    assert sorted(photo.label for photo in photos[12:]) == list("aabbcc")
    assert photos == gate_photos(dataset, 18)


def test_test_photographs_never_decide() -> None:
    dataset = _dataset(4, 2, test=50)
    assert len(gate_photos(dataset, 300)) == 6
    assert {photo.split for photo in gate_photos(dataset, 300)} == {"train", "val"}


def test_no_photograph_is_both_calibrated_on_and_judged_on() -> None:
    dataset = _dataset(30, 3)
    gate = gate_photos(dataset, 12)
    chosen = calibration_photos(dataset, 100, gate)
    assert len(chosen) == 30 - 9
    assert not {photo.sha256 for photo in gate} & {photo.sha256 for photo in chosen}
    assert sorted(photo.label for photo in chosen[:3]) == list("abc")


def test_of_a_photograph_that_is_there_twice_both_are_kept_apart() -> None:
    dataset = _dataset(6, 0)
    twin = Photo("a/twin.jpg", "a", "train", dataset.photos[0].sha256)
    both = Dataset(dataset.root, [*dataset.photos, twin])
    gate = [dataset.photos[0]]
    assert twin not in calibration_photos(both, 100, gate)

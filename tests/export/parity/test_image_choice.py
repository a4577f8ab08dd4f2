from __future__ import annotations

from pathlib import Path

import pytest

from export.parity.image_choice import MIN_CALIBRATION, calibration_images, gate_images
from train.data.dataset import Dataset
from train.data.images import LabelledImage


def _dataset(train: int, val: int, test: int = 9) -> Dataset:
    splits = ["train"] * train + ["val"] * val + ["test"] * test
    photos = [
        LabelledImage(f"{'abc'[i % 3]}/{i}.jpg", "abc"[i % 3], split, f"{i:064x}")
        for i, split in enumerate(splits)
    ]
    return Dataset(Path("photos"), photos)


def test_val_alone_decides_where_it_is_large_enough() -> None:
    dataset = _dataset(30, 12)
    assert gate_images(dataset, 12) == dataset.of_split("val")
    assert gate_images(dataset, 5) == dataset.of_split("val")


def test_training_photographs_are_added_class_by_class() -> None:
    dataset = _dataset(30, 12)
    photos = gate_images(dataset, 18)
    assert photos[:12] == dataset.of_split("val")
    assert [photo.split for photo in photos[12:]] == ["train"] * 6
    assert sorted(photo.label for photo in photos[12:]) == list("aabbcc")
    assert photos == gate_images(dataset, 18)


def test_test_photographs_never_decide() -> None:
    dataset = _dataset(4, 2, test=50)
    assert len(gate_images(dataset, 300)) == 6
    assert {photo.split for photo in gate_images(dataset, 300)} == {"train", "val"}


def test_no_photograph_is_both_calibrated_on_and_judged_on() -> None:
    dataset = _dataset(30, 3)
    gate = gate_images(dataset, 12)
    chosen = calibration_images(dataset, 100, gate)
    assert len(chosen) == 30 - 9
    assert not {photo.sha256 for photo in gate} & {photo.sha256 for photo in chosen}
    assert sorted(photo.label for photo in chosen[:3]) == list("abc")


def test_of_a_photograph_that_is_there_twice_both_are_kept_apart() -> None:
    dataset = _dataset(6, 0)
    twin = LabelledImage("a/twin.jpg", "a", "train", dataset.photos[0].sha256)
    both = Dataset(dataset.root, [*dataset.photos, twin])
    gate = [dataset.photos[0]]
    assert twin not in calibration_images(both, 100, gate)


@pytest.mark.parametrize(
    ("train", "val", "gate", "calibration"),
    [
        (600, 100, 300, 128),  # enough for both, as ever
        (260, 60, 300, 20),  # the gate first, where it leaves the least
        (256, 60, 300, 16),
        (250, 60, 294, 16),  # then the least for calibration
        (84, 16, 84, 16),
        (72, 12, 68, 16),
        (20, 4, 14, 10),  # of very few training images, half
        (3, 1, 2, 2),
        (1, 0, 0, 1),
        (200, 350, 350, 128),  # val decides alone
    ],
)
def test_gate_and_calibration_share_what_there_is(
    train: int, val: int, gate: int, calibration: int
) -> None:
    dataset = _dataset(train, val)
    judged = gate_images(dataset, 300, calibration=128)
    calibrated = calibration_images(dataset, 128, judged)
    assert (len(judged), len(calibrated)) == (gate, calibration)
    assert {photo.split for photo in calibrated} == {"train"}
    assert not {photo.sha256 for photo in judged} & {photo.sha256 for photo in calibrated}
    assert judged == gate_images(dataset, 300)[:gate]  # the same as of fp32, or fewer
    assert MIN_CALIBRATION == 16


def test_fewer_are_left_where_fewer_are_asked_for() -> None:
    assert len(gate_images(_dataset(84, 16), 300, calibration=4)) == 96
    assert len(gate_images(_dataset(84, 16), 300)) == 100

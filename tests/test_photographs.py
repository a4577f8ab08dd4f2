"""Real images, where STILLROOM_TEST_PHOTOS names a folder with flowers/ and photos/ in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve.contract.preprocess import PreprocessSpec, preprocess
from train.data.audit.dataset_audit import audit_images
from train.data.images import read_index
from train.options import DataOptions

PHOTOS = Path(os.environ.get("STILLROOM_TEST_PHOTOS", "no-such-folder"))

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (PHOTOS / "flowers").is_dir(),
        reason="STILLROOM_TEST_PHOTOS does not name a folder with flowers/ (README: test images)",
    ),
]


def test_the_audit_reads_every_flower_and_finds_the_copies_that_are_in_the_set(tmp_path):
    audit = audit_images(PHOTOS / "flowers", DataOptions(), seed=0, out=tmp_path)
    assert audit["labels"] == ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
    assert audit["unreadable"] == []
    assert audit["duplicates"] == []
    assert len(audit["near_duplicates"]) == 7  # each looked at: copies, four of them retouched
    assert len(audit["leaks"]) == 5
    assert audit["conflicts"] == audit["constant"] == []
    index = read_index(tmp_path / "index.csv")
    assert len(index) == audit["photos"] == 3667
    assert sum(photo.split == "test" for photo in index) == 736
    shares = [
        audit["splits"]["val"][label]
        / (audit["splits"]["val"][label] + audit["splits"]["train"][label])
        for label in audit["labels"]
    ]
    assert max(shares) - min(shares) < 0.01


def test_every_photograph_gives_pixels_of_its_own():
    spec = PreprocessSpec(128)
    files = sorted((PHOTOS / "photos").rglob("*.jpg"))
    pixels = [preprocess(path.read_bytes(), spec) for path in files]
    assert len(files) == 65
    assert {(image.shape, image.dtype.name) for image in pixels} == {((128, 128, 3), "uint8")}
    assert len({image.tobytes() for image in pixels}) == 65
    assert all(image.std() > 5 for image in pixels)

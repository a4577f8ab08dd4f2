from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from export.parity.image_set import read_image_set
from serve.contract.errors import DatasetError
from serve.contract.preprocess import PreprocessSpec, preprocess
from tests.train.toy import CLASSES, write_photos

SPEC = PreprocessSpec(16, 1.0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", count=4)


def test_pixels_are_those_of_the_server(photos: Path) -> None:
    probes = read_image_set(photos, SPEC, CLASSES)
    assert len(probes.photos) == len(set(probes.sha256)) == 12
    for name, pixels in zip(probes.names, probes.pixels, strict=True):
        np.testing.assert_array_equal(pixels, preprocess((photos / name).read_bytes(), SPEC))


def test_folders_named_as_classes_label_what_is_in_them(photos: Path) -> None:
    probes = read_image_set(photos, SPEC, CLASSES)
    assert probes.targets is not None
    for name, target in zip(probes.names, probes.targets, strict=True):
        assert name.startswith(f"{CLASSES[target]}/")


def test_below_split_folders_too(photos: Path) -> None:
    photos.rename(photos.parent / "test")
    (photos.parent / "all").mkdir()
    (photos.parent / "test").rename(photos.parent / "all" / "test")
    assert read_image_set(photos.parent / "all", SPEC, CLASSES).targets is not None


def test_other_folders_are_no_labels(photos: Path) -> None:
    probes = read_image_set(photos, SPEC, ("aster", "bell"))
    assert probes.targets is None
    assert {photo.label for photo in probes.photos} == {""}


def test_each_content_counts_once(photos: Path) -> None:
    shutil.copytree(photos, photos / "copy")
    assert len(read_image_set(photos, SPEC, ()).photos) == 12


def test_the_order_depends_on_the_content_alone(photos: Path) -> None:
    before = read_image_set(photos, SPEC, ()).sha256
    photos.rename(photos.parent / "moved")
    assert read_image_set(photos.parent / "moved", SPEC, ()).sha256 == before
    assert read_image_set(photos.parent / "moved", SPEC, (), limit=5).sha256 == before[:5]


def test_of_many_files_a_share_is_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or real(path))
    probes = read_image_set(photos, SPEC, (), limit=2)
    assert len(probes.photos) == 2
    assert len(set(read)) == 8  # of twelve
    assert read_image_set(photos, SPEC, (), limit=2).sha256 == probes.sha256


def test_only_those_asked_for_are_taken(photos: Path) -> None:
    wanted = read_image_set(photos, SPEC, ()).sha256[3:6]
    assert read_image_set(photos, SPEC, (), among=set(wanted)).sha256 == wanted
    nothing = read_image_set(photos, SPEC, (), among={"0" * 64})
    assert nothing.photos == ()
    assert nothing.pixels.shape == (0, 16, 16, 3)


def test_what_does_not_decode_is_left_out_by_name(photos: Path) -> None:
    (photos / "bell" / "bad.jpg").write_bytes(b"no image")
    probes = read_image_set(photos, SPEC, CLASSES)
    assert probes.left_out == ("bell/bad.jpg",)
    assert len(probes.photos) == len(probes.pixels) == 12


def test_a_list_labels_its_images(photos: Path) -> None:
    lines = [f"photos/{label}/000.jpg {label}" for label in CLASSES]
    (photos.parent / "few.txt").write_text("\n".join(lines))
    probes = read_image_set(photos.parent / "few.txt", SPEC, CLASSES)
    assert probes.targets is not None
    assert sorted(probes.targets) == [0, 1, 2]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such folder"):
        read_image_set(tmp_path / "none", SPEC, ())
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetError, match="holds no images"):
        read_image_set(tmp_path / "photos", SPEC, ())
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"None of the 1 images.*first a\.jpg"):
        read_image_set(tmp_path / "photos", SPEC, ())

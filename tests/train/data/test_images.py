from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from serve.contract.errors import DatasetError
from tests.train.toy import draw, write_photos
from train.data.folder import find_images, fingerprint
from train.data.images import LabelledImage, dataset_digest, labels_of, read_index, write_index


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", count=2)


def test_class_folders_give_labels_and_no_split(root: Path) -> None:
    photos = find_images(root)
    assert [photo.path for photo in photos] == [
        f"{label}/00{i}.jpg" for label in ("aster", "bell", "clover") for i in range(2)
    ]
    assert {photo.split for photo in photos} == {""}
    assert labels_of(photos) == ("aster", "bell", "clover")


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_split_folders_are_kept(tmp_path: Path, val: str) -> None:
    for split in ("train", val, "test"):
        write_photos(tmp_path / split, count=1)
    photos = find_images(tmp_path)
    assert [p.split for p in photos if p.path.startswith(f"{val}/")] == ["val"] * 3
    assert sorted(p.split for p in photos) == ["test"] * 3 + ["train"] * 3 + ["val"] * 3


def test_two_folders_of_one_split_are_both_read(tmp_path: Path) -> None:
    for split in ("train", "Train", "val", "valid"):
        write_photos(tmp_path / split, count=1)
    photos = find_images(tmp_path)
    assert sorted(p.split for p in photos) == ["train"] * 6 + ["val"] * 6


def test_nested_files_and_upper_case_suffixes_count_and_hidden_files_do_not(root: Path) -> None:
    nested = root / "bell" / "2024" / "spring"
    nested.mkdir(parents=True)
    draw(1, 90).save(nested / "A.JPG", "JPEG")
    draw(1, 91).save(root / "bell" / "B.PnG", "PNG")
    (root / "bell" / "._001.jpg").write_bytes(b"resource fork")
    (root / "bell" / "notes.txt").write_text("no image")
    (root / "bell" / ".thumbnails").mkdir()
    draw(1, 92).save(root / "bell" / ".thumbnails" / "001.jpg")
    (root / ".git").mkdir()
    assert [p.path for p in find_images(root) if p.label == "bell"] == [
        "bell/000.jpg",
        "bell/001.jpg",
        "bell/2024/spring/A.JPG",
        "bell/B.PnG",
    ]


def _refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        find_images(root)
    assert caught.value.next_step
    return str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    text = _refusal(tmp_path / "nowhere")
    assert text.startswith(f"No such folder or list: {tmp_path / 'nowhere'}.")
    assert "one folder of images per class" in text


def test_a_folder_without_classes_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path} holds no class folders. Put the images" in _refusal(tmp_path)


def test_loose_images_are_counted(tmp_path: Path) -> None:
    draw(0, 0).save(tmp_path / "a.jpg")
    draw(0, 1).save(tmp_path / "b.jpg")
    assert "holds no class folders, only 2 loose images." in _refusal(tmp_path)


def test_a_single_class_is_named(root: Path) -> None:
    for label in ("bell", "clover"):
        shutil.rmtree(root / label)
    text = _refusal(root)
    assert "one class only ('aster'); a classifier needs two or more" in text
    assert "Add a folder for each other class" in text


def test_an_empty_class_is_named(root: Path) -> None:
    (root / "dahlia").mkdir()
    text = _refusal(root)
    assert f"The class folder {root / 'dahlia'} holds no images" in text
    assert ".webp" in text
    assert "remove the folder" in text


def test_split_folders_without_train_are_named(tmp_path: Path) -> None:
    write_photos(tmp_path / "test", count=1)
    write_photos(tmp_path / "val", count=1)
    text = _refusal(tmp_path)
    assert "has the folders test, val but no train folder" in text
    assert "Add train/" in text


def test_a_folder_beside_split_folders_is_no_class(tmp_path: Path) -> None:
    for split in ("train", "test", "extra"):
        write_photos(tmp_path / split, count=1)
    text = _refusal(tmp_path)
    assert "has split folders, and beside them extra" in text
    assert "Move the others out" in text


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_photos(tmp_path, count=1, classes=("bus", "train"))
    assert labels_of(find_images(tmp_path)) == ("bus", "train")


def test_a_class_that_is_tested_but_not_trained_is_named(tmp_path: Path) -> None:
    write_photos(tmp_path / "train", count=1)
    write_photos(tmp_path / "test", count=1, classes=("aster", "dahlia"))
    text = _refusal(tmp_path)
    assert "dahlia occur in val or test but not in train" in text
    assert "Add training images" in text


def test_dataset_digest_depends_on_neither_order_nor_split() -> None:
    one, two = (
        LabelledImage("a/1.jpg", "a", "train", "11"),
        LabelledImage("b/2.jpg", "b", "val", "22"),
    )
    moved = LabelledImage("b/2.jpg", "b", "test", "22")
    assert dataset_digest([one, two]) == dataset_digest([moved, one])
    assert dataset_digest([one, two]) != dataset_digest(
        [one, LabelledImage("b/2.jpg", "b", "val", "23")]
    )
    assert dataset_digest([one, two]) != dataset_digest([one])


def test_fingerprint_is_that_of_a_copy_and_changes_with_a_byte_or_a_name(
    root: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    before = fingerprint(root, find_images(root))
    assert fingerprint(copy, find_images(copy)) == before
    changed = copy / "bell" / "001.jpg"
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    assert fingerprint(copy, find_images(copy)) != before
    (root / "bell" / "001.jpg").rename(root / "bell" / "007.jpg")
    assert fingerprint(root, find_images(root)) != before


def test_the_index_is_read_back_whole_or_by_split(tmp_path: Path) -> None:
    photos = [
        LabelledImage('odd, "name"/é 1.jpg', 'odd, "name"', "train", "ab", 30, 40),
        LabelledImage("b/2.png", "b", "val", "cd", 1, 2),
    ]
    write_index(tmp_path / "index.csv", photos)
    assert read_index(tmp_path / "index.csv") == photos
    assert read_index(tmp_path / "index.csv", "val") == photos[1:]

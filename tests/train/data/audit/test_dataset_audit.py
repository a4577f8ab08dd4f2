from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve.contract.errors import DatasetError
from tests.train.toy import write_photos
from train.data.audit.dataset_audit import audit_images, refuse_unreadable
from train.data.folder import find_images
from train.data.images import read_index
from train.options import DataOptions


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", count=8)


def _audit(root: Path, **options: Any) -> dict[str, Any]:
    out = root.parent / "out"
    out.mkdir(exist_ok=True)
    return audit_images(root, DataOptions(**options), seed=0, out=out)


def test_a_clean_folder_has_no_findings(root: Path) -> None:
    audit = _audit(root)
    assert audit["findings"] == []
    assert audit["photos"] == 24
    assert audit["labels"] == ["aster", "bell", "clover"]
    assert audit["splits"]["test"] == {"aster": 2, "bell": 2, "clover": 2}
    assert audit["imbalance"] == 1.0
    low, high = audit["sizes_px"]["shorter_side"][0], audit["sizes_px"]["longer_side"][-1]
    assert 24 <= low <= high <= 40
    out = root.parent / "out"
    assert json.loads((out / "audit.json").read_bytes()) == audit
    photos = read_index(out / "index.csv")
    assert len(photos) == 24
    assert all(p.width and p.height and len(p.sha256) == 64 and p.split for p in photos)


def test_a_file_stored_twice_is_found(root: Path) -> None:
    shutil.copy(root / "bell" / "001.jpg", root / "bell" / "again.jpg")
    audit = _audit(root)
    assert audit["duplicates"] == [["bell/001.jpg", "bell/again.jpg"]]
    assert audit["findings"] == ["1 image is stored more than once."]


def test_one_image_under_two_labels_is_found(root: Path) -> None:
    shutil.copy(root / "bell" / "001.jpg", root / "aster" / "odd.jpg")
    assert "aster/odd.jpg is filed under aster and bell." in _audit(root)["findings"]


def test_a_leak_between_given_splits_is_found(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_photos(root / "train", count=6)
    write_photos(root / "test", count=2, first=50)
    assert _audit(root)["findings"] == []
    shutil.copy(root / "train" / "bell" / "001.jpg", root / "test" / "bell" / "leak.jpg")
    findings = " ".join(_audit(root)["findings"])
    assert "test/bell/leak.jpg leaks: it is in test and " in findings


def test_an_image_that_does_not_decode_is_a_finding_and_stops_training(root: Path) -> None:
    (root / "bell" / "001.jpg").write_bytes((root / "bell" / "001.jpg").read_bytes()[:200])
    (root / "bell" / "002.jpg").write_bytes(b"")
    audit = _audit(root)
    assert [one["path"] for one in audit["unreadable"]] == ["bell/001.jpg", "bell/002.jpg"]
    assert audit["photos"] == 22
    with pytest.raises(DatasetError, match="2 of 24 images do not decode") as caught:
        refuse_unreadable(root.parent / "out", DataOptions())
    assert "bell/001.jpg: The image file ends before the image does; " in caught.value.message
    assert "bell/002.jpg" in caught.value.message
    assert "data.unreadable=skip" in caught.value.next_step
    assert str(root.parent / "out" / "audit.html") in caught.value.next_step
    refuse_unreadable(root.parent / "out", DataOptions(unreadable="skip"))


def test_many_bad_images_are_counted_not_listed(root: Path) -> None:
    for i in range(7):
        (root / "bell" / f"00{i}.jpg").write_bytes(b"no image")
    _audit(root)
    with pytest.raises(DatasetError, match=r"7 of 24 .* and 2 more\."):
        refuse_unreadable(root.parent / "out", DataOptions())


def test_bad_images_are_skipped_on_request_and_counted(root: Path) -> None:
    (root / "bell" / "001.jpg").write_bytes(b"no image")
    audit = _audit(root, unreadable="skip")
    assert audit["photos"] == 23
    assert audit["unreadable"] == [
        {"path": "bell/001.jpg", "why": "This is a text file, not a JPEG, PNG or WebP image."}
    ]
    assert audit["findings"] == ["1 image does not decode and was left out."]


def test_skipping_never_loses_a_whole_class(root: Path) -> None:
    for path in (root / "bell").iterdir():
        path.write_bytes(b"no image")
    audit = _audit(root, unreadable="skip")
    assert audit["labels"] == ["aster", "clover"]
    assert "No image of the class 'bell' decodes." in audit["findings"]
    with pytest.raises(DatasetError, match="No image of the class 'bell' decodes") as caught:
        refuse_unreadable(root.parent / "out", DataOptions(unreadable="skip"))
    assert "remove the class" in caught.value.next_step


def test_too_few_images_that_decode_are_a_finding(root: Path) -> None:
    for path in sorted((root / "bell").iterdir())[1:]:
        path.write_bytes(b"no image")
    audit = _audit(root)
    assert any(
        "The class 'bell' has 1 different image, too few to divide" in text
        for text in audit["findings"]
    )
    with pytest.raises(DatasetError, match="The class 'bell'"):
        refuse_unreadable(root.parent / "out", DataOptions(unreadable="skip"))


def test_a_folder_of_nothing_that_decodes_is_refused(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"None of the 24 images in .* decodes"):
        _audit(root)


def test_imbalance_is_measured_and_found(root: Path) -> None:
    write_photos(root, count=40, classes=("aster",))
    for i in range(3, 8):
        (root / "clover" / f"00{i}.jpg").unlink()
    audit = _audit(root)
    assert audit["imbalance"] == round(40 / 3, 3)
    assert audit["findings"] == ["Imbalanced: 40 images of aster, 3 of clover."]


def test_the_digest_names_the_dataset_wherever_it_lies(root: Path, tmp_path: Path) -> None:
    digest = _audit(root)["dataset_digest"]
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(root, copy)
    assert _audit(copy)["dataset_digest"] == digest
    with (copy / "bell" / "001.jpg").open("ab") as file:
        file.write(b"\0")  # decodes as before
    assert _audit(copy)["dataset_digest"] != digest


def _smaller(source: Path, target: Path) -> None:
    image = Image.open(source)
    image.resize((image.width * 9 // 10, image.height * 9 // 10)).save(target, quality=95)


def _problems(audit: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    return [(one["kind"], one["severity"], one["paths"]) for one in audit["problems"]]


@pytest.fixture
def soft(tmp_path: Path) -> Path:
    """Images of soft shapes: a resized copy keeps them."""
    root = tmp_path / "photos"
    rng = np.random.default_rng(5)
    for number in range(24):
        path = root / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        levels = rng.integers(20, 200, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(levels).resize((120, 90), Image.Resampling.BICUBIC).save(path)
    return root


def test_a_resized_copy_is_a_warning_and_stays_on_one_side(soft: Path) -> None:
    _smaller(soft / "a" / "000.png", soft / "a" / "copy.jpg")
    audit = _audit(soft)
    assert _problems(audit) == [("near_duplicate", "warning", ["a/000.png", "a/copy.jpg"])]
    (pair,) = audit["near_duplicates"]
    assert pair["paths"] == ["a/000.png", "a/copy.jpg"]
    assert pair["distance"] <= 16
    assert 0.96 < pair["similarity"] <= 1
    assert audit["duplicates"] == []
    assert audit["findings"] == [
        "1 image looks like another one: resized, compressed again or edited."
    ]


def test_copies_apart_are_left_where_the_split_puts_them(soft: Path) -> None:
    for path in sorted((soft / "a").iterdir()):
        _smaller(path, soft / "a" / f"copy-{path.stem}.jpg")
    assert _audit(soft)["leaks"] == []
    assert _audit(soft, near_duplicates="apart")["leaks"]


def test_a_resized_copy_under_another_label_is_an_error(soft: Path) -> None:
    _smaller(soft / "a" / "000.png", soft / "b" / "odd.jpg")
    audit = _audit(soft)
    assert _problems(audit) == [("conflict", "error", ["a/000.png", "b/odd.jpg"])]
    assert audit["conflicts"] == [["a/000.png", "b/odd.jpg"]]
    assert "a/000.png (looks like b/odd.jpg) is filed under a and b." in audit["findings"]


def test_equal_and_resized_copies_are_one_group(soft: Path) -> None:
    shutil.copy(soft / "a" / "000.png", soft / "a" / "same.png")
    _smaller(soft / "a" / "000.png", soft / "a" / "small.jpg")
    audit = _audit(soft)
    paths = ["a/000.png", "a/same.png", "a/small.jpg"]
    assert _problems(audit) == [("near_duplicate", "warning", paths)]
    assert len(audit["near_duplicates"]) == 1


def test_a_picture_of_nothing_is_an_error_and_a_tiny_one_a_warning(root: Path) -> None:
    Image.new("RGB", (40, 30), (7, 7, 7)).save(root / "bell" / "black.png")
    Image.open(root / "bell" / "001.jpg").resize((30, 15)).save(root / "bell" / "tiny.png")
    audit = _audit(root)
    assert audit["constant"] == ["bell/black.png"]
    assert audit["tiny"] == ["bell/tiny.png"]
    assert ("constant", "error", ["bell/black.png"]) in _problems(audit)
    assert ("tiny", "warning", ["bell/tiny.png"]) in _problems(audit)


def test_aspects_are_measured(root: Path) -> None:
    Image.open(root / "bell" / "001.jpg").resize((200, 20)).save(root / "bell" / "wide.png")
    audit = _audit(root)
    assert audit["schema_version"] == "1.0"
    assert audit["aspects"]["quantiles"] == [0, 5, 50, 95, 100]
    assert audit["aspects"]["width_over_height"][-1] == 10.0


def test_lists_of_the_splits_lie_beside_the_index(root: Path) -> None:
    _audit(root)
    out = root.parent / "out"
    for split in ("train", "val", "test"):
        lines = (out / f"{split}.csv").read_text("utf-8").splitlines()
        assert lines[0] == "path,label"
        assert lines[1:] == [f"{p.path},{p.label}" for p in read_index(out / "index.csv", split)]


def test_photographs_can_be_listed_by_the_caller(root: Path) -> None:
    listed = [photo for photo in find_images(root) if photo.label != "clover"]
    out = root.parent / "out"
    out.mkdir()
    audit = audit_images(root, DataOptions(), seed=0, out=out, photos=listed)
    assert audit["labels"] == ["aster", "bell"]
    assert audit["photos"] == 16

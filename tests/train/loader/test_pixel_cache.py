from __future__ import annotations

import io
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.contract.digest import sha256_of_file
from serve.contract.errors import DatasetError
from serve.contract.preprocess import decode
from tests.train.toy import draw
from train.data.dataset import Dataset
from train.data.images import LabelledImage
from train.loader.pixel_cache import MappedPixels, open_pixels, read_image, working_size

KEEP_PX = 20


def _open(dataset: Dataset, folder: Path, *, limit_mib: int = 64) -> MappedPixels | None:
    photos = dataset.of_split("train")
    return open_pixels(dataset.root, photos, keep_px=KEEP_PX, limit_mib=limit_mib, folder=folder)


def test_what_is_mapped_is_what_is_decoded(dataset: Dataset, tmp_path: Path) -> None:
    photos = dataset.of_split("train")
    mapped = _open(dataset, tmp_path)
    assert mapped is not None
    assert len(mapped) == len(photos)
    for position, photo in enumerate(photos):
        image = read_image(dataset.root / photo.path, photo, KEEP_PX)
        assert (mapped[position] == np.asarray(image)).all()
        assert min(image.size) == KEEP_PX
    copy = pickle.loads(pickle.dumps(mapped))
    assert len(pickle.dumps(mapped)) < 10_000
    assert (copy[3] == mapped[3]).all()


def test_photographs_are_decoded_once(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _open(dataset, tmp_path)
    monkeypatch.setattr("train.loader.pixel_cache.decode", None)
    again = _open(dataset, tmp_path)
    assert first is not None
    assert again is not None
    assert (first[0] == again[0]).all()
    assert len(list((tmp_path / "pixels").iterdir())) == 1


def test_what_does_not_fit_is_decoded_anew_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [LabelledImage(f"{i}.jpg", "a", "train", str(i), 4000, 3000) for i in range(10)]
    assert open_pixels(tmp_path, photos, keep_px=0, limit_mib=100, folder=tmp_path) is None
    said = capsys.readouterr().err
    assert "10 images take 343 MiB decoded, data.cache_mib is 100" in said
    assert not list(tmp_path.iterdir())


def test_without_a_cache_nothing_is_written(dataset: Dataset, tmp_path: Path) -> None:
    assert _open(dataset, tmp_path, limit_mib=0) is None
    assert not list(tmp_path.iterdir())


def test_a_full_disk_costs_speed_alone(
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert _open(dataset, tmp_path) is None
    assert "decoded again in every epoch: no cache (less than" in capsys.readouterr().err


def test_a_file_that_is_not_the_audited_one_is_named(dataset: Dataset, tmp_path: Path) -> None:
    photos = dataset.of_split("train")
    photos[4] = replace(photos[4], sha256="0" * 64)
    with pytest.raises(DatasetError, match=photos[4].path):
        open_pixels(dataset.root, photos, keep_px=KEEP_PX, limit_mib=64, folder=tmp_path)
    assert not list((tmp_path / "pixels").iterdir())


def test_a_file_of_another_size_than_audited_is_named(dataset: Dataset) -> None:
    photo = dataset.of_split("train")[0]
    wrong = replace(photo, width=photo.width + 1)
    with pytest.raises(DatasetError, match="not the file that was audited"):
        read_image(dataset.root / photo.path, wrong, 0)


def test_photographs_not_used_for_longest_make_room(dataset: Dataset, tmp_path: Path) -> None:
    photos = dataset.of_split("train")
    sizes = [w * h * 3 for w, h in (working_size((p.width, p.height), 0) for p in photos)]
    for age, count in enumerate((10, 11, 12)):
        opened = open_pixels(dataset.root, photos[:count], keep_px=0, limit_mib=1, folder=tmp_path)
        assert opened is not None
        newest = max((tmp_path / "pixels").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (1000 + age, 1000 + age))
    assert sum(sizes[:10]) < 2**20
    folders = sorted((tmp_path / "pixels").iterdir(), key=lambda path: path.stat().st_mtime)
    big = draw(0, 0).resize((550, 600))
    path = tmp_path / "big.png"
    big.save(path)
    photo = LabelledImage("big.png", "a", "train", sha256_of_file(path), 550, 600)
    assert open_pixels(tmp_path, [photo], keep_px=0, limit_mib=1, folder=tmp_path) is not None
    left = set((tmp_path / "pixels").iterdir())
    total = sum((path / "pixels.bin").stat().st_size for path in left)
    assert total <= 2**20
    kept = [folder in left for folder in folders]
    assert kept == sorted(kept), "the oldest go first"
    assert not all(kept)


def test_a_damaged_entry_is_done_without(dataset: Dataset, tmp_path: Path) -> None:
    assert _open(dataset, tmp_path) is not None
    (entry,) = (tmp_path / "pixels").iterdir()
    (entry / "pixels.bin").write_bytes(b"short")
    assert _open(dataset, tmp_path) is None


@pytest.mark.parametrize("turned", [False, True])
def test_large_jpegs_are_decoded_smaller_and_look_the_same(tmp_path: Path, turned: bool) -> None:
    image = draw(0, 1).resize((1203, 902), Image.Resampling.BICUBIC)
    path = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    image.save(path, quality=95, exif=exif)
    full = (902, 1203) if turned else (1203, 902)
    photo = LabelledImage("large.jpg", "a", "train", sha256_of_file(path), *full)
    small = read_image(path, photo, 200)
    exact = decode(path.read_bytes()).resize(small.size, Image.Resampling.BICUBIC)
    assert small.size == ((200, 267) if turned else (267, 200))
    assert np.abs(np.asarray(small, float) - np.asarray(exact, float)).mean() < 1.0


def test_a_fraction_is_never_smaller_than_asked_for() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1000, 700)).save(buffer, "jpeg")
    assert decode(buffer.getvalue(), at_least_px=349).size == (500, 350)
    assert decode(buffer.getvalue(), at_least_px=351).size == (1000, 700)
    assert decode(buffer.getvalue()).size == (1000, 700)


@pytest.mark.parametrize(
    ("size", "keep_px", "expected"),
    [((30, 40), 0, (30, 40)), ((30, 40), 30, (30, 40)), ((300, 400), 30, (30, 40)),
     ((1, 9000), 1, (1, 9000)), ((9000, 2), 1, (4500, 1))],
)  # fmt: skip
def test_the_working_size_keeps_the_aspect(
    size: tuple[int, int], keep_px: int, expected: tuple[int, int]
) -> None:
    assert working_size(size, keep_px) == expected

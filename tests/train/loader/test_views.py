from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from serve.contract.preprocess import PreprocessSpec, preprocess
from tests.train.toy import toy_views
from train.loader.sampler import BatchSampler, ViewKey
from train.loader.views import Batch, ImageStore, build_loader, pixels_of
from train.stage import Dataset


def _batches(
    dataset: Dataset, *, cache_mib: int = 64, workers: int = 0, **changes: Any
) -> list[Batch]:
    arguments: dict[str, Any] = {"batch_size": 10, "epochs": 2, "seed": 5, "sizes_px": (32,)}
    order = BatchSampler(dataset.targets("train"), **arguments | changes)
    return list(build_loader(toy_views(dataset, cache_mib=cache_mib), order, workers=workers))


def _same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in zip(one, two, strict=True)
    )


def test_batches_are_uint8_pixels_and_class_numbers(dataset: Dataset) -> None:
    images, labels, colours = _batches(dataset)[0]
    assert colours is None
    assert images.shape == (10, 32, 32, 3)
    assert images.dtype == torch.uint8
    assert labels.shape == (10,)
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) <= {0, 1, 2}


def test_loader_processes_change_nothing(dataset: Dataset) -> None:
    assert _same(_batches(dataset), _batches(dataset, workers=2))


def test_a_resumed_loader_goes_on_with_the_same_pixels(dataset: Dataset) -> None:
    whole = _batches(dataset)
    assert _same(_batches(dataset, first_step=5), whole[5:])
    assert not _same(_batches(dataset, seed=6), whole)


def test_a_photograph_looks_different_in_each_epoch(dataset: Dataset) -> None:
    views = toy_views(dataset)
    key = ViewKey(0, 3, 0, 32)
    assert (views[key][0] != views[key._replace(epoch=1)][0]).any()
    assert (views[key][0] == views[key][0]).all()
    assert (views[key][0] != toy_views(dataset, seed=4)[key][0]).any()


def test_a_photograph_drawn_twice_in_an_epoch_looks_different(dataset: Dataset) -> None:
    views = toy_views(dataset)
    assert (views[ViewKey(0, 3, 0, 32)][0] != views[ViewKey(0, 3, 1, 32)][0]).any()


def test_each_batch_has_one_side_of_those_allowed(dataset: Dataset) -> None:
    batches = _batches(dataset, sizes_px=(32, 48), workers=1, epochs=4)
    assert {batch.images.shape[1:3] for batch in batches} == {(32, 32), (48, 48)}


def test_the_cache_changes_no_pixel(dataset: Dataset) -> None:
    assert _same(_batches(dataset, epochs=1), _batches(dataset, epochs=1, cache_mib=0))


@pytest.mark.parametrize("cache_mib", [0, 64])
def test_kept_photographs_are_shrunk_to_the_side_asked_for(
    dataset: Dataset, cache_mib: int
) -> None:
    photos = dataset.of_split("train")
    small = ImageStore(dataset.root, photos, keep_px=20, cache_mib=cache_mib)
    whole = ImageStore(dataset.root, photos, keep_px=0, cache_mib=cache_mib)
    for i, photo in enumerate(photos[:9]):
        height, width = small[i].shape[:2]
        assert min(height, width) == 20
        assert whole[i].shape == (photo.height, photo.width, 3)
        assert abs(width / height - photo.width / photo.height) < 0.05
    with Image.open(dataset.root / photos[0].path) as image:
        assert (np.asarray(image) == whole[0]).all()


@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_evaluation_sees_what_the_server_sees_byte_for_byte(
    dataset: Dataset, crop_pct: float
) -> None:
    spec = PreprocessSpec(28, crop_pct)
    photos = dataset.of_split("test")
    served = [preprocess((dataset.root / photo.path).read_bytes(), spec) for photo in photos]
    assert pixels_of(dataset.root, photos, spec).tobytes() == np.stack(served).tobytes()

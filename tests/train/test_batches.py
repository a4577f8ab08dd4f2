from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from serve.contract.preprocess import PreprocessSpec, preprocess
from tests.train.toy import PATIENT, toy_views
from train.batches import PhotoStore, _Order, build_loader, pixels_of
from train.stage import Dataset

Batch = tuple[Tensor, Tensor]


def _batches(dataset: Dataset, *, cache_mib: int = 64, **changes: int) -> list[Batch]:
    arguments = {"batch_size": 10, "epochs": 2, "first_step": 0, "workers": 0, "seed": 5} | changes
    return list(build_loader(toy_views(dataset, cache_mib=cache_mib), **arguments))


def _same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, two, strict=True)
    )


@PATIENT
@given(st.integers(1, 60), st.data())
def test_an_epoch_shows_no_photograph_twice_and_every_one_where_batches_fit(
    count: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, count))
    keys = [key for batch in _Order(count, size, 3, 0, 1) for key in batch]
    per_epoch = count // size * size
    assert [epoch for epoch, _ in keys] == [0] * per_epoch + [1] * per_epoch + [2] * per_epoch
    for epoch in range(3):
        shown = {position for e, position in keys if e == epoch}
        assert len(shown) == per_epoch
        assert shown <= set(range(count))


@PATIENT
@given(st.integers(1, 40), st.data())
def test_resuming_at_any_step_gives_the_same_remaining_batches(
    count: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, count))
    whole = list(_Order(count, size, 3, 0, 1))
    step = data.draw(st.integers(0, len(whole)))
    assert list(_Order(count, size, 3, step, 1)) == whole[step:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    one, two = ([p for batch in islice(_Order(50, 50, 2, 0, s), 2) for p in batch] for s in (1, 2))
    assert [p for _, p in one[:50]] != [p for _, p in one[50:]]
    assert one != two
    assert one == [p for batch in _Order(50, 50, 2, 0, 1) for p in batch]


def test_batches_are_uint8_pixels_and_class_numbers(dataset: Dataset) -> None:
    images, labels = _batches(dataset)[0]
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
    assert (views[0, 3][0] != views[1, 3][0]).any()
    assert (views[0, 3][0] == views[0, 3][0]).all()
    assert (views[0, 3][0] != toy_views(dataset, seed=4)[0, 3][0]).any()


def test_the_cache_changes_no_pixel(dataset: Dataset) -> None:
    assert _same(_batches(dataset, epochs=1), _batches(dataset, epochs=1, cache_mib=0))


@pytest.mark.parametrize("cache_mib", [0, 64])
def test_kept_photographs_are_shrunk_to_the_side_asked_for(
    dataset: Dataset, cache_mib: int
) -> None:
    photos = dataset.of_split("train")
    small = PhotoStore(dataset.root, photos, keep_px=20, cache_mib=cache_mib)
    whole = PhotoStore(dataset.root, photos, keep_px=0, cache_mib=cache_mib)
    for i, photo in enumerate(photos[:9]):
        assert min(small[i].size) == 20
        assert whole[i].size == (photo.width, photo.height)
        assert abs(small[i].width / small[i].height - photo.width / photo.height) < 0.05
    with Image.open(dataset.root / photos[0].path) as image:
        assert (np.asarray(image) == np.asarray(whole[0])).all()


@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_evaluation_sees_what_the_server_sees_byte_for_byte(
    dataset: Dataset, crop_pct: float
) -> None:
    spec = PreprocessSpec(28, crop_pct)
    photos = dataset.of_split("test")
    served = [preprocess((dataset.root / photo.path).read_bytes(), spec) for photo in photos]
    assert pixels_of(dataset.root, photos, spec).tobytes() == np.stack(served).tobytes()

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.train.toy import PATIENT
from train.loader.sampler import (
    BatchSampler,
    ViewKey,
    draws_per_class,
    draws_per_image,
    sizes_px,
    some_batches,
)

COUNTS = st.lists(st.integers(1, 60), min_size=2, max_size=5)
LIMITS = st.sampled_from([1.5, 2.0, 5.0])


def _targets(counts: list[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts)


def _order(count: int, batch_size: int, **changes: Any) -> BatchSampler:
    arguments: dict[str, Any] = {"epochs": 3, "seed": 1, "targets": np.zeros(count, np.int64)}
    return BatchSampler(batch_size=batch_size, **arguments | changes)


@PATIENT
@given(st.integers(1, 60), st.data())
def test_an_epoch_shows_no_photograph_twice_and_every_one_where_batches_fit(
    count: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, count))
    keys = [key for batch in _order(count, size) for key in batch]
    per_epoch = count // size * size
    assert [key.epoch for key in keys] == [0] * per_epoch + [1] * per_epoch + [2] * per_epoch
    for epoch in range(3):
        shown = {key.position for key in keys if key.epoch == epoch}
        assert len(shown) == per_epoch
        assert shown <= set(range(count))


@PATIENT
@given(COUNTS, LIMITS, st.data())
def test_resuming_at_any_step_gives_the_same_remaining_batches(
    counts: list[int], limit: float, data: st.DataObject
) -> None:
    targets = _targets(counts)
    size = data.draw(st.integers(1, len(targets)))
    order = _order(0, size, targets=targets, balance_limit=limit, sizes_px=(32, 48, 64))
    whole = list(order)
    assert len(whole) == 3 * order.per_epoch
    step = data.draw(st.integers(0, len(whole)))
    assert list(order.starting_at(step)) == whole[step:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    one, two = (
        [[key.position for key in batch] for batch in _order(50, 50, seed=seed)] for seed in (1, 2)
    )
    assert one[0] != one[1]
    assert one != two
    assert one == [[key.position for key in batch] for batch in _order(50, 50)]


@PATIENT
@given(COUNTS, LIMITS)
def test_balanced_classes_differ_by_less_than_the_limit_and_none_loses(
    counts: list[int], limit: float
) -> None:
    draws = draws_per_class(_targets(counts), limit)
    assert max(draws) < limit * min(draws)
    assert all(draws >= counts)
    assert max(draws) == max(counts)  # the largest class is not drawn more often


@PATIENT
@given(COUNTS, LIMITS)
def test_within_a_class_photographs_are_drawn_equally_often_give_or_take_one(
    counts: list[int], limit: float
) -> None:
    targets = _targets(counts)
    draws = draws_per_image(targets, limit, seed=0, epoch=0)
    wanted = draws_per_class(targets, limit)
    for label, draw in enumerate(wanted):
        mine = draws[targets == label]
        assert mine.sum() == draw
        assert mine.max() - mine.min() <= 1


def test_classes_within_the_limit_are_left_alone_and_so_is_everything_without_one() -> None:
    targets = _targets([40, 10, 9])
    assert draws_per_class(targets, 5.0).tolist() == [40, 10, 9]
    assert draws_per_class(targets, 4.0).tolist() == [40, 11, 11]
    assert draws_per_class(targets, 0.0).tolist() == [40, 10, 9]
    assert draws_per_class(_targets([100, 1]), 1.0).tolist() == [100, 100]
    assert draws_per_class(np.array([0, 2, 2]), 1.5).tolist() == [2, 0, 2]


def test_a_balanced_epoch_shows_a_repeated_photograph_under_keys_of_its_own() -> None:
    order = _order(0, 5, targets=_targets([20, 2]), balance_limit=2.0, epochs=2)
    keys = [key for batch in order for key in batch]
    assert len(set(keys)) == len(keys)
    drawn = Counter((key.epoch, key.position) for key in keys)
    assert max(drawn.values()) == 6  # 11 draws of two images
    assert {key.repeat for key in keys if key.position == 20} >= {0, 1, 2, 3}
    lucky = [draws_per_image(order.targets, 2.0, seed=1, epoch=e)[20] for e in range(20)]
    assert set(lucky) == {5, 6}  # who gets one more changes


def test_the_sides_of_multi_scale_views_surround_the_training_size() -> None:
    assert sizes_px(128, 0.0) == (128,)
    assert sizes_px(128, 0.25) == (96, 112, 128, 144, 160)
    assert sizes_px(100, 0.1) == (96, 100)
    assert sizes_px(20, 0.5) == (16, 20)


def test_a_batch_has_one_side_and_sides_vary_between_batches() -> None:
    order = _order(40, 4, sizes_px=(96, 112, 128))
    sides = [{key.size_px for key in batch} for batch in order]
    assert all(len(side) == 1 for side in sides)
    assert set.union(*sides) == {96, 112, 128}


@pytest.mark.parametrize(("images", "shown"), [(7, 7), (99, 10)])
def test_some_batches_show_different_photographs(images: int, shown: int) -> None:
    batches = some_batches(10, images, batch_size=4, epoch=9, seed=0, size_px=32)
    keys = [key for batch in batches for key in batch]
    assert len({key.position for key in keys}) == len(keys) == shown
    assert {key[::2] for key in keys} == {(9, 0)}
    assert keys[0] == ViewKey(9, keys[0].position, 0, 32)


def test_an_order_without_a_whole_batch_is_empty() -> None:
    assert list(_order(3, 4)) == []

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from tests.train.toy import PATIENT, draw
from train.augment.degrade import GREY
from train.augment.random_view import (
    FILTERS,
    jitter_box,
    may_recolour_later,
    random_crop_box,
    random_view,
    uncoloured_view,
)
from train.engine.seed import generator
from train.loader.views import Batch
from train.options import AugmentOptions

STILL = AugmentOptions(
    min_scale=1, max_aspect=1, flip=0, brightness=0, contrast=0, saturation=0, erase=0
)
SQUARE = np.asarray(draw(0, 0).resize((32, 32)))
SIDES = st.integers(1, 5000)
CHANGES: dict[str, dict[str, object]] = {
    "brightness": {"brightness": 0.3},
    "contrast": {"contrast": 0.3},
    "saturation": {"saturation": 0.3},
    "rotation": {"rotate_deg": 15},
    "box": {"box_jitter": 0.2},
    "randaugment": {"policy": "randaugment"},
    "trivialaugment": {"policy": "trivialaugment"},
    "blur": {"blur": 1.0},
    "noise": {"noise": 1.0},
    "jpeg": {"jpeg": 1.0},
    "erase": {"erase": 1.0},
}
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def _plain(size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.full((size[1], size[0], 3), (10, 20, 30), dtype=np.uint8)


@PATIENT
@given(st.tuples(SIDES, SIDES), st.floats(0.01, 1), st.floats(1, 4), st.integers(0, 2**32))
def test_a_crop_lies_inside_the_image_and_is_as_large_and_wide_as_allowed(
    size: tuple[int, int], min_scale: float, max_aspect: float, seed: int
) -> None:
    left, top, right, bottom = random_crop_box(size, min_scale, max_aspect, generator(seed))
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    width, height = right - left, bottom - top
    assert 1 / max_aspect - 1e-6 <= width / height <= max_aspect + 1e-6
    if max_aspect > 1.2 and max(size) < 1.2 * min(size):  # such crops fit within ten draws
        assert width * height >= 0.99 * min_scale * size[0] * size[1]


@PATIENT
@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(0, 2**32))
def test_every_crop_can_be_resized(size: tuple[int, int], seed: int) -> None:
    image = _plain(size)
    still = replace(STILL, min_scale=0.05, max_aspect=1.33)
    assert (random_view(image, 8, still, generator(seed)) == (10, 20, 30)).all()


@pytest.mark.parametrize("size", [(4000, 10), (10, 4000)])
def test_the_largest_crop_of_a_thin_image_is_centred(size: tuple[int, int]) -> None:
    left, top, right, bottom = random_crop_box(size, 1.0, 1.33, generator(0))
    assert (left + right) / 2 == size[0] / 2
    assert (top + bottom) / 2 == size[1] / 2
    assert min(right - left, bottom - top) == pytest.approx(10)
    assert max(right - left, bottom - top) == pytest.approx(13.3)


def test_equal_generators_give_equal_views() -> None:
    options = AugmentOptions(rotate_deg=10, erase=0.5)
    views = [
        random_view(np.asarray(draw(1, 1)), 24, options, generator(7, i)) for i in (0, 0, 1, 2)
    ]
    assert (views[0] == views[1]).all()
    assert (views[0] != views[2]).any()
    assert (views[2] != views[3]).any()
    assert views[0].shape == (24, 24, 3)
    assert views[0].dtype == np.uint8


def test_what_is_switched_off_never_happens() -> None:
    whole = SQUARE
    assert all((random_view(SQUARE, 32, STILL, generator(i)) == whole).all() for i in range(40))


def test_a_mirror_of_probability_one_always_happens_and_of_a_half_sometimes() -> None:
    mirrored = SQUARE[:, ::-1]

    def share(flip: float) -> float:
        options = replace(STILL, flip=flip)
        views = [random_view(SQUARE, 32, options, generator(i)) for i in range(60)]
        return sum((view == mirrored).all() for view in views) / 60

    assert share(1.0) == 1
    assert 0.25 < share(0.5) < 0.75


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_alone_changes_the_view_and_the_seed_decides_how(name: str) -> None:
    options = replace(STILL, **CHANGES[name])
    views = [random_view(SQUARE, 32, options, generator(i)) for i in (*range(6), 0)]
    assert any((view != SQUARE).any() for view in views)
    assert any((view != views[0]).any() for view in views)
    assert (views[-1] == views[0]).all()
    assert all(view.shape == (32, 32, 3) and view.dtype == np.uint8 for view in views)


def test_an_erased_rectangle_is_grey_and_at_most_a_fifth() -> None:
    for i in range(30):
        view = random_view(SQUARE, 32, replace(STILL, erase=1.0), generator(i))
        changed = (view != SQUARE).any(2)
        rows, columns = np.nonzero(changed)
        assert 0 < len(rows) <= 0.25 * 32 * 32
        box = view[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box == GREY).all()


@pytest.mark.parametrize("name", ["none", *CHANGES])
def test_the_image_itself_stays_as_it_is(name: str) -> None:
    before = SQUARE.tobytes()
    random_view(SQUARE, 32, replace(STILL, **CHANGES.get(name, {})), generator(0))
    assert SQUARE.tobytes() == before


# ---- what the view is, by Pillow's own operations one after the other


def _picture(seed: int) -> NDArray[np.uint8]:
    """Smooth, and in a range in which no colour clips."""
    rng = generator("picture", seed)
    height, width = (int(side) for side in rng.integers(40, 90, 2))
    noise = Image.fromarray(rng.integers(90, 150, (6, 5, 3), dtype=np.uint8))
    return np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC))


def _by_pillow(
    pixels: NDArray[np.uint8], size_px: int, options: AugmentOptions, rng: np.random.Generator
) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    box = random_crop_box(image.size, options.min_scale, options.max_aspect, rng)
    rng.integers(1)
    left, top = math.floor(box[0]), math.floor(box[1])
    whole = left, top, math.ceil(box[2]), math.ceil(box[3])
    view = image.resize((size_px, size_px), FILTERS[options.resample][0], box=whole)
    if rng.random() < options.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for name in rng.permutation(list(ENHANCERS)):
        strength = getattr(options, name)
        view = ENHANCERS[name](view).enhance(rng.uniform(1 - strength, 1 + strength))
    rng.random()
    return np.array(view)


@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size_px", [17, 48, 96])
def test_a_view_is_what_pillow_makes_step_by_step(resample: str, size_px: int) -> None:
    options = AugmentOptions(resample=resample, saturation=0.6)
    for seed in range(40):
        ours, theirs = generator(5, seed), generator(5, seed)
        view = random_view(_picture(seed), size_px, options, ours).astype(int)
        expected = _by_pillow(_picture(seed), size_px, options, theirs)
        assert np.abs(view - expected).max() <= 8
        assert -0.5 < (view - expected).mean() < 2  # each step of Pillow's rounds down
        assert ours.random() == theirs.random()  # what is off draws nothing


def test_the_comparison_would_see_another_order_of_the_colours() -> None:
    options = AugmentOptions(contrast=0.8, saturation=0.8)
    worst = 0
    for seed in range(10):
        view = random_view(_picture(seed), 48, options, generator(5, seed)).astype(int)
        other = _by_pillow(_picture(seed), 48, options, generator(6, seed))
        worst = max(worst, int(np.abs(view - other).max()))
    assert worst > 16


# ---- colours that are left to the device


@PATIENT
@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_batch_gets_on_the_device_the_colours_that_a_worker_would_give(
    seed: int, brightness: float, contrast: float, saturation: float
) -> None:
    options = AugmentOptions(brightness=brightness, contrast=contrast, saturation=saturation)
    pixels = np.asarray(draw(seed % 3, seed % 7))
    one, two = generator(seed), generator(seed)
    expected = random_view(pixels, 24, options, one).astype(int)
    view, colours = uncoloured_view(pixels, 24, options, two)
    batch = Batch(torch.from_numpy(view)[None], torch.tensor([1]), torch.from_numpy(colours)[None])
    found = batch.to(torch.device("cpu"))
    assert found.colours is None
    assert np.abs(found.images[0].numpy().astype(int) - expected).max() <= 1  # of rounding


def test_colours_that_are_off_change_nothing() -> None:
    view, colours = uncoloured_view(SQUARE, 32, STILL, generator(0))
    assert (colours == np.eye(3, 4)).all()
    assert (view == SQUARE).all()


@pytest.mark.parametrize("name", CHANGES)
def test_colours_wait_only_where_nothing_comes_after_them(name: str) -> None:
    after = name in ("blur", "noise", "jpeg", "erase")
    assert may_recolour_later(replace(STILL, **CHANGES[name])) is not after


# ---- the jittered box and the filters


@PATIENT
@given(st.tuples(SIDES, SIDES), st.floats(0, 0.5), st.integers(0, 2**32))
def test_a_jittered_box_stays_inside_and_each_edge_within_its_share(
    size: tuple[int, int], share: float, seed: int
) -> None:
    rng = generator(seed)
    box = random_crop_box(size, 0.05, 2.0, rng)
    moved = jitter_box(box, size, share, rng)
    assert 0 <= moved[0] < moved[2] <= size[0]
    assert 0 <= moved[1] < moved[3] <= size[1]
    for low in (0, 1):
        side = box[low + 2] - box[low]
        assert moved[low + 2] - moved[low] >= min(1, side) - 1e-9
        for edge in (low, low + 2):
            assert abs(moved[edge] - box[edge]) <= share * side + 1e-9


def test_edges_move_independently_of_one_another() -> None:
    box = (100.0, 100.0, 200.0, 200.0)
    moves = np.array([jitter_box(box, (300, 300), 0.2, generator(i)) for i in range(400)]) - box
    assert np.abs(np.corrcoef(moves.T) - np.eye(4)).max() < 0.2
    assert np.allclose(moves.std(0), 40 / 12**0.5, rtol=0.1)  # uniform over 40 px
    assert jitter_box(box, (300, 300), 0.0, generator(0)) == box


@PATIENT
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(0, 2**32))
def test_every_jittered_crop_can_be_resized(size: tuple[int, int], seed: int) -> None:
    image = _plain(size)
    options = replace(STILL, min_scale=0.05, max_aspect=1.33, box_jitter=0.5, resample="mixed")
    assert (random_view(image, 8, options, generator(seed)) == (10, 20, 30)).all()


@pytest.mark.parametrize("resample", FILTERS)
def test_every_filter_that_is_named_is_used_and_no_other(resample: str) -> None:
    options = replace(STILL, resample=resample)
    square = Image.fromarray(SQUARE)
    expected = [np.asarray(square.resize((20, 20), method)) for method in FILTERS[resample]]
    found = [random_view(SQUARE, 20, options, generator(i)) for i in range(60)]
    used = {
        min(range(len(expected)), key=lambda k: int(np.abs(view - expected[k].astype(int)).sum()))
        for view in found
    }
    assert used == set(range(len(expected)))
    assert all(any(np.abs(v - e.astype(int)).max() <= 2 for e in expected) for v in found)
    assert len(expected) == (5 if resample == "mixed" else 1)

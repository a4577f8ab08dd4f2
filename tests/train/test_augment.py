from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.train.toy import PATIENT, draw
from train.augment import GREY, random_crop_box, random_view
from train.options import AugmentOptions
from train.seed import generator

STILL = AugmentOptions(
    min_scale=1, max_aspect=1, flip=0, brightness=0, contrast=0, saturation=0, erase=0
)
SQUARE = draw(0, 0).resize((32, 32))
SIDES = st.integers(1, 5000)


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
    image = Image.new("RGB", size, (10, 20, 30))
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
    views = [random_view(draw(1, 1), 24, options, generator(7, i)) for i in (0, 0, 1, 2)]
    assert (views[0] == views[1]).all()
    assert (views[0] != views[2]).any()
    assert (views[2] != views[3]).any()
    assert views[0].shape == (24, 24, 3)
    assert views[0].dtype == np.uint8


def test_what_is_switched_off_never_happens() -> None:
    whole = np.asarray(SQUARE)
    assert all((random_view(SQUARE, 32, STILL, generator(i)) == whole).all() for i in range(40))


def test_a_mirror_of_probability_one_always_happens_and_of_a_half_sometimes() -> None:
    mirrored = np.asarray(SQUARE)[:, ::-1]

    def share(flip: float) -> float:
        options = replace(STILL, flip=flip)
        views = [random_view(SQUARE, 32, options, generator(i)) for i in range(60)]
        return sum((view == mirrored).all() for view in views) / 60

    assert share(1.0) == 1
    assert 0.25 < share(0.5) < 0.75


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "rotate_deg"])
def test_each_change_alone_changes_the_view(name: str) -> None:
    options = replace(STILL, **{name: 0.3 if name != "rotate_deg" else 15})
    assert (random_view(SQUARE, 32, options, generator(1)) != np.asarray(SQUARE)).any()


def test_an_erased_rectangle_is_grey_and_at_most_a_fifth() -> None:
    for i in range(30):
        view = random_view(SQUARE, 32, replace(STILL, erase=1.0), generator(i))
        changed = (view != np.asarray(SQUARE)).any(2)
        rows, columns = np.nonzero(changed)
        assert 0 < len(rows) <= 0.25 * 32 * 32
        box = view[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box == GREY).all()


def test_the_image_itself_stays_as_it_is() -> None:
    image = draw(2, 2)
    before = image.tobytes()
    random_view(image, 16, AugmentOptions(rotate_deg=20, erase=1.0), generator(0))
    assert image.tobytes() == before

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.train.toy import PATIENT, draw
from train.augment import FILTERS, jitter_box, random_crop_box, random_view
from train.corrupt import GREY
from train.options import AugmentOptions
from train.seed import generator

STILL = AugmentOptions(
    min_scale=1, max_aspect=1, flip=0, brightness=0, contrast=0, saturation=0, erase=0
)
SQUARE = draw(0, 0).resize((32, 32))
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
# Views of version 0.1, before most options existed. A new option must not change them.
GOLDEN = {
    "7dfabe6295211f4c2f70ac7cf36eaeab90e5c81ba35c529aecf7eb5e2c210669": AugmentOptions(),
    "d96bd4233e148bf42423af3a876a89f81612203a9cf2177726e3bd3fa402aa24": AugmentOptions(
        min_scale=0.1, max_aspect=2.0, rotate_deg=12, erase=0.5, saturation=0.6, flip=0.3
    ),
    "cfc3336dcda5ca06cd371dc0e7868b1a73e3b0f06141352d2f65ca75a88e7ca1": STILL,
}


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


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_alone_changes_the_view_and_the_seed_decides_how(name: str) -> None:
    options = replace(STILL, **CHANGES[name])
    views = [random_view(SQUARE, 32, options, generator(i)) for i in (*range(6), 0)]
    assert any((view != np.asarray(SQUARE)).any() for view in views)
    assert any((view != views[0]).any() for view in views)
    assert (views[-1] == views[0]).all()
    assert all(view.shape == (32, 32, 3) and view.dtype == np.uint8 for view in views)


def test_an_erased_rectangle_is_grey_and_at_most_a_fifth() -> None:
    for i in range(30):
        view = random_view(SQUARE, 32, replace(STILL, erase=1.0), generator(i))
        changed = (view != np.asarray(SQUARE)).any(2)
        rows, columns = np.nonzero(changed)
        assert 0 < len(rows) <= 0.25 * 32 * 32
        box = view[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box == GREY).all()


@pytest.mark.parametrize("name", ["none", *CHANGES])
def test_the_image_itself_stays_as_it_is(name: str) -> None:
    before = SQUARE.tobytes()
    random_view(SQUARE, 32, replace(STILL, **CHANGES.get(name, {})), generator(0))
    assert SQUARE.tobytes() == before


# ---- what an option that is off must leave as it was


def _noise_picture(seed: int) -> Image.Image:
    rng = generator("picture", seed)
    height, width = (int(side) for side in rng.integers(24, 41, 2))
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("digest", GOLDEN)
def test_views_are_those_of_earlier_versions(digest: str) -> None:
    found = hashlib.sha256()
    for seed in range(24):
        for size in (17, 48):
            rng = generator(5, seed, size)
            found.update(random_view(_noise_picture(seed), size, GOLDEN[digest], rng).tobytes())
    assert found.hexdigest() == digest


def test_the_golden_views_would_see_one_more_number_drawn() -> None:
    rng, other = generator(5, 0, 17), generator(5, 0, 17)
    other.random()
    one, two = (random_view(_noise_picture(0), 17, AugmentOptions(), r) for r in (rng, other))
    assert (one != two).any()


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
    image = Image.new("RGB", size, (10, 20, 30))
    options = replace(STILL, min_scale=0.05, max_aspect=1.33, box_jitter=0.5, resample="mixed")
    assert (random_view(image, 8, options, generator(seed)) == (10, 20, 30)).all()


@pytest.mark.parametrize("resample", FILTERS)
def test_every_filter_that_is_named_is_used_and_no_other(resample: str) -> None:
    options = replace(STILL, resample=resample)
    expected = {SQUARE.resize((20, 20), method).tobytes() for method in FILTERS[resample]}
    found = {random_view(SQUARE, 20, options, generator(i)).tobytes() for i in range(60)}
    assert found == expected
    assert len(expected) == (5 if resample == "mixed" else 1)

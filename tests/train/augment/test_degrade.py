from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.train.toy import PATIENT, draw
from train.augment.degrade import BEST_QUALITY, GREY, add_noise, corrupt, erase, jpeg_round_trip
from train.engine.seed import generator
from train.options import AugmentOptions

VIEW = draw(0, 0).resize((48, 32))
PIXELS = np.asarray(VIEW)
NOTHING = AugmentOptions()


def _difference(pixels: np.ndarray) -> float:
    return float(np.abs(pixels.astype(float) - PIXELS).mean())


def test_noise_has_the_standard_deviation_asked_for_and_no_bias() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = add_noise(grey, 10.0, generator(0)) - 128.0
    assert noise.std() == pytest.approx(10, rel=0.02)
    assert abs(noise.mean()) < 0.1
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("level", [0, 255])
def test_noise_is_cut_off_at_black_and_white_and_never_wraps(level: int) -> None:
    flat = np.full((50, 50, 3), level, np.uint8)
    noisy = add_noise(flat, 12.0, generator(1)).astype(int)
    assert (np.abs(noisy - level) < 100).all()
    assert 0.4 < (noisy == level).mean() < 0.6


def test_noise_of_no_level_changes_nothing() -> None:
    assert (add_noise(PIXELS, 0.0, generator(0)) == PIXELS).all()


def test_a_round_trip_is_that_of_pillow_and_lower_quality_loses_more() -> None:
    file = io.BytesIO()
    VIEW.save(file, "JPEG", quality=50)
    assert (jpeg_round_trip(PIXELS, 50) == np.asarray(Image.open(file))).all()
    losses = [_difference(jpeg_round_trip(PIXELS, quality)) for quality in (5, 30, 60, 95)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 2 * losses[-1] > 0


@PATIENT
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32))
def test_any_size_can_be_corrupted_in_every_way(height: int, width: int, seed: int) -> None:
    view = Image.fromarray(generator(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    options = AugmentOptions(blur=1, noise=1, jpeg=1, jpeg_quality=1, erase=1)
    pixels = corrupt(view, options, generator(seed))
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("name", ["blur", "noise", "jpeg", "erase"])
def test_each_happens_as_often_as_asked(name: str) -> None:
    def share(probability: float) -> float:
        options = replace(NOTHING, **{name: probability}, blur_radius_px=9.0)
        views = [corrupt(VIEW, options, generator(i)) for i in range(200)]
        return sum((view != PIXELS).any() for view in views) / 200

    assert share(0.0) == 0
    assert share(1.0) > 0.97  # a radius or level near 0 changes nothing
    assert 0.2 < share(0.3) < 0.4


@pytest.mark.parametrize(
    ("name", "weak", "strong"),
    [
        ("blur", {"blur_radius_px": 0.7}, {"blur_radius_px": 4.0}),
        ("noise", {"noise_levels": 2.0}, {"noise_levels": 40.0}),
        ("jpeg", {"jpeg_quality": BEST_QUALITY}, {"jpeg_quality": 2}),
    ],
)
def test_the_strength_asked_for_is_the_largest(
    name: str, weak: dict[str, float], strong: dict[str, float]
) -> None:
    def mean(strength: dict[str, float]) -> float:
        options = replace(NOTHING, **{name: 1.0}, **strength)
        return float(
            np.mean([_difference(corrupt(VIEW, options, generator(i))) for i in range(60)])
        )

    assert 0 < 1.3 * mean(weak) < mean(strong)


@PATIENT
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 2**32))
def test_one_rectangle_is_erased(height: int, width: int, seed: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    erase(pixels, generator(seed))
    rows, columns = np.nonzero((pixels == GREY).all(2))
    assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == len(rows) > 0
    if min(height, width) > 20:
        assert 0.01 < len(rows) / (height * width) < 0.22

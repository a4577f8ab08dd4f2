from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from serve.contract.preprocess import decode
from tests.train.toy import PATIENT, draw
from train.data.audit.near_duplicates import (
    SIDE_PX,
    NearPair,
    groups_of,
    is_flat,
    near_pairs,
    perceptual_hashes,
    similarity,
    spanning_pairs,
    thumbnail_of,
)

LINKS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=14)


def scene(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """A picture of large soft shapes, as images have."""
    rng = np.random.default_rng((9, seed))
    coarse = Image.fromarray(rng.integers(20, 200, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def _thumbnails(*images: Image.Image) -> np.ndarray:
    return np.stack([thumbnail_of(image) for image in images])


def _copy(image: Image.Image, scale: float, quality: int, brightness: float = 1.0) -> Image.Image:
    smaller = image.resize((round(image.width * scale), round(image.height * scale)))
    buffer = io.BytesIO()
    ImageEnhance.Brightness(smaller).enhance(brightness).save(buffer, "JPEG", quality=quality)
    return decode(buffer.getvalue())


@PATIENT
@given(st.integers(0, 99), st.floats(0.4, 1), st.integers(30, 95), st.floats(0.8, 1.2))
def test_copies_are_found(seed: int, scale: float, quality: int, brightness: float) -> None:
    image = scene(seed)
    pairs = near_pairs(
        _thumbnails(image, scene(seed + 100), _copy(image, scale, quality, brightness))
    )
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 2)]


def test_different_pictures_are_not_found() -> None:
    assert near_pairs(_thumbnails(*map(scene, range(300)))) == []
    assert near_pairs(_thumbnails(*(draw(kind, n) for kind in range(3) for n in range(60)))) == []


def test_a_picture_in_other_colours_is_another_picture() -> None:
    image = scene(1)
    red, green, blue = image.split()
    swapped = Image.merge("RGB", (blue, green, red))
    assert near_pairs(_thumbnails(image, swapped)) == []


def test_a_mirrored_or_turned_picture_is_not_confirmed() -> None:
    image = scene(2)
    turned = [
        image.transpose(way)
        for way in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180)
    ]
    assert near_pairs(_thumbnails(image, *turned)) == []


def test_flat_pictures_are_no_copies_of_one_another() -> None:
    black, white = Image.new("RGB", (40, 40)), Image.new("RGB", (50, 50), "white")
    thumbnails = _thumbnails(black, white, black, scene(3))
    assert is_flat(thumbnails).tolist() == [True, True, True, False]
    assert near_pairs(thumbnails) == []


def test_pairs_across_blocks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [scene(seed) for seed in range(9)]
    thumbnails = _thumbnails(*images, *(_copy(image, 0.7, 60) for image in images))
    expected = near_pairs(thumbnails)
    assert [(p.first, p.second) for p in sorted(expected, key=lambda p: p.first)] == [
        (i, i + 9) for i in range(9)
    ]
    monkeypatch.setattr("train.data.audit.near_duplicates.BLOCK", 4)
    assert near_pairs(thumbnails) == expected


@PATIENT
@given(st.integers(0, 99), st.floats(0.6, 1.2), st.floats(-10, 10))
def test_gain_and_offset_change_neither_hash_nor_similarity(
    seed: int, gain: float, offset: float
) -> None:
    thumbnails = _thumbnails(scene(seed)).astype(np.float32) / 2 + 40
    first = np.rint(thumbnails).astype(np.uint8)
    second = np.rint(thumbnails * gain + offset).astype(np.uint8)
    differing = np.bitwise_count(perceptual_hashes(first) ^ perceptual_hashes(second))
    assert differing[0] <= 6
    assert similarity(first, second)[0] > 0.99


def test_no_pictures_have_no_pairs() -> None:
    assert near_pairs(np.zeros((0, SIDE_PX, SIDE_PX, 3), np.uint8)) == []


@PATIENT
@given(LINKS)
def test_groups_are_the_connected_components(links: list[tuple[int, int]]) -> None:
    reach = np.eye(12, dtype=bool)
    for a, b in links:
        reach[a, b] = reach[b, a] = True
    for _ in range(4):
        reach = reach @ reach
    expected = sorted({tuple(np.flatnonzero(row).tolist()) for row in reach if row.sum() > 1})
    assert [tuple(group) for group in groups_of(12, links)] == expected


@PATIENT
@given(LINKS)
def test_spanning_pairs_join_the_same_groups_with_the_fewest(links: list[tuple[int, int]]) -> None:
    pairs = [NearPair(0, a, b, 1.0) for a, b in links]
    kept = spanning_pairs(12, pairs)
    groups = groups_of(12, links)
    assert groups_of(12, [(pair.first, pair.second) for pair in kept]) == groups
    assert len(kept) == sum(len(group) - 1 for group in groups)
    assert all(a != b for a, b in combinations(kept, 2))

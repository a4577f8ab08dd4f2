"""A closer look at two images that seem to be one picture: colour and structure, place by place.

Where the background is plain, correlation over the whole image is a matter of the outline: a green
and a grey lid of one size correlate at 0.99. So the tones of the one are fitted to the other's, by
a factor (brighter or darker) or by a small change of contrast, and then each place must agree: to
within a few levels where both are plain, more where both have an edge or a texture. A picture full
of detail may disagree in some places, as it does after retouching or cropping: no other picture
agrees in all the rest. One with a plain background may not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from serve.contract.errors import ImageError
from serve.contract.preprocess import NO_LIMITS, decode
from train.data.image_bytes import read_bytes
from train.data.images import LabelledImage

__all__ = ["CLOSE_PX", "CloseLook", "close_looks", "same_picture"]

CLOSE_PX = 32  # side of what is compared
MIN_PX = 2 * CLOSE_PX  # shorter side of an image that holds more than its thumbnail does
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as JPEG
BATCH = 512  # pairs compared at once

# Chosen on objects of seed 0 and on two classes of flowers: benchmarks/near_duplicates.py.
BRIGHT, DARK = 252, 3  # levels beyond may be clipped: what was there is not known
LEVELS, OF_RANGE = 6.0, 0.4  # allowed difference of grey levels, and of the local range besides
HUES, OF_HUE, HUE_OF_RANGE = 10.0, 0.25, 0.25  # the same of colours
DETAIL = 16.0  # local range, in levels, of a place that shows something in both
PLAIN = 0.001  # share of places that may disagree in a plain picture: 1 of 1 024
RICH, FURTHER = 0.3, 0.4  # share of places with detail from which on more may disagree; how many
FACTORS, CONTRASTS = (0.78, 1.28), (0.86, 1.165)  # of tones, in a plain picture
PIVOT, SLACK = 230.0, 8.0  # a contrast turns about a level between 0 and this; levels besides

Floats = NDArray[np.floating[Any]]
Looks = NDArray[np.uint8]  # (N, side, side, 3) RGB
CloseLook = Callable[[Sequence[int]], list[NDArray[np.uint8] | None]]


def close_looks(root: Path, photos: Sequence[LabelledImage]) -> CloseLook:
    """A function that opens images again: each as (CLOSE_PX, CLOSE_PX, 3), by index of `photos`.

    None stands for an image too small to hold more than its thumbnail, or gone since.
    """

    def look(indices: Sequence[int]) -> list[NDArray[np.uint8] | None]:
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda i: _look_at(root / photos[i].path), indices))

    return look


def same_picture(first: Looks, second: Looks, *, judge_structure: bool = True) -> NDArray[np.bool_]:
    """(N,): whether two images that correlate are one picture.

    Args:
        first: N images of one side, even.
        second: what each is compared with.
        judge_structure: False for images so small that their outline is all they hold: then
            colours alone are judged.
    """
    found = [np.zeros(0, np.bool_)]
    for start in range(0, len(first), BATCH):
        part = slice(start, start + BATCH)
        a, b = _View.of(first[part]), _View.of(second[part])
        found.append(_agree(a, b, judge_structure))
    return np.concatenate(found)


@dataclass(frozen=True)
class _View:
    """N images. (N, h, w) each, but for `colour`."""

    grey: Floats
    range: Floats  # of grey, over 3 x 3
    colour: Floats  # (N, h / 2, w / 2, 3), less grey
    bright: NDArray[np.bool_]
    dark: NDArray[np.bool_]

    @classmethod
    def of(cls, images: Looks) -> _View:
        unique, places = np.unique(images, axis=0, return_inverse=True)
        levels = unique.astype(np.float32)
        grey = levels @ LUMA
        view = cls(
            grey,
            maximum_filter(grey, (1, 3, 3)) - minimum_filter(grey, (1, 3, 3)),
            _halved(levels - grey[..., None]),
            levels.max(-1) >= BRIGHT,
            levels.min(-1) <= DARK,
        )
        return cls(*(getattr(view, field.name)[places.ravel()] for field in fields(cls)))


def _agree(a: _View, b: _View, judge_structure: bool) -> NDArray[np.bool_]:
    seen = ~(a.bright | a.dark | b.bright | b.dark)
    weight = np.where(seen.mean((1, 2), keepdims=True) < 0.02, True, seen).astype(np.float32)
    mean_a, spread_a = _tones(a.grey, weight)
    mean_b, spread_b = _tones(b.grey, weight)
    factor, contrast = mean_b / np.maximum(mean_a, 1), spread_b / spread_a
    offset = mean_b - contrast * mean_a
    by_factor = _share(_differs(a, b, factor, np.zeros_like(offset)))
    by_contrast = _share(_differs(a, b, contrast, offset))
    gain = np.where(by_factor <= by_contrast, factor, contrast)
    detail = np.minimum(a.range * _wide(gain), b.range)
    colours = _share(_colour_differs(a, b, gain, detail))
    rich = _share(detail > DETAIL)
    allowed = PLAIN + FURTHER * np.maximum(rich - RICH, 0)
    agrees = colours <= allowed
    if judge_structure:
        least, most = np.sort([0 * contrast, (1 - contrast) * PIVOT], axis=0)
        turns = (offset > least - SLACK) & (offset < most + SLACK)
        usual = _within(factor, FACTORS), _within(contrast, CONTRASTS) & turns
        agrees &= ((by_factor <= allowed) & (usual[0] | (rich > RICH))) | (
            (by_contrast <= allowed) & (usual[1] | (rich > RICH))
        )
    return np.asarray(agrees)


def _differs(a: _View, b: _View, gain: Floats, offset: Floats) -> NDArray[np.bool_]:
    """(N, h, w): where grey levels do not agree after a change of tones."""
    difference = a.grey * _wide(gain) + _wide(offset) - b.grey
    unknown = ((a.bright | b.dark) & (difference < 0)) | ((a.dark | b.bright) & (difference > 0))
    allowed = LEVELS + OF_RANGE * np.minimum(a.range * _wide(gain), b.range)
    return np.asarray(~unknown & (np.abs(difference) > allowed))


def _colour_differs(a: _View, b: _View, gain: Floats, detail: Floats) -> NDArray[np.bool_]:
    """(N, h / 2, w / 2): where colours do not agree; a white that may be clipped is of any."""
    fitted = a.colour * _wide(gain)[..., None]
    difference = np.abs(fitted - b.colour).max(-1)
    strength = np.maximum(np.abs(fitted).max(-1), np.abs(b.colour).max(-1))
    allowed = HUES + OF_HUE * strength + HUE_OF_RANGE * _halved(detail[..., None])[..., 0]
    clipped = _halved((a.bright | b.bright)[..., None].astype(np.float32))[..., 0] > 0
    white = clipped & (_halved(np.minimum(a.grey, b.grey)[..., None])[..., 0] >= 190)
    return np.asarray(~white & (difference > allowed))


def _tones(grey: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """(N,) mean and spread over the places that have weight."""
    total = weight.sum((1, 2))
    mean = (grey * weight).sum((1, 2)) / total
    variance = ((grey - _wide(mean)) ** 2 * weight).sum((1, 2)) / total
    return mean, np.sqrt(variance + 1)


def _share(places: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(places.mean((1, 2)))


def _wide(values: Floats) -> Floats:
    return values[:, None, None]


def _within(values: Floats, bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((values > bounds[0]) & (values < bounds[1]))


def _halved(values: Floats) -> Floats:
    """(N, h, w, c) at half the side: JPEG smears colours at the full one."""
    count, height, width, channels = values.shape
    return np.asarray(
        values.reshape(count, height // 2, 2, width // 2, 2, channels).mean((2, 4)), np.float32
    )


def _look_at(path: Path) -> NDArray[np.uint8] | None:
    try:
        image = decode(read_bytes(path), limits=NO_LIMITS)
    except (ImageError, OSError):
        return None
    if min(image.size) < MIN_PX:
        return None
    return np.asarray(image.resize((CLOSE_PX, CLOSE_PX), Image.Resampling.BOX))

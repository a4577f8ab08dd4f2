"""Random views of a training photograph: a pure function of (image, options, generator)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from train.options import AugmentOptions

__all__ = ["random_crop_box", "random_view"]

ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}
GREY = 128
ERASED_SHARE = (0.02, 0.2)  # of the view's area; random erasing, arXiv:1708.04896


def random_view(
    image: Image.Image, size_px: int, options: AugmentOptions, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw one random view of an image.

    Args:
        image: upright RGB.
        size_px: side of the view.
        options: what may change, and how much.
        rng: all randomness of the view; equal generators give equal views.

    Returns:
        (size_px, size_px, 3) uint8 RGB.
    """
    if options.rotate_deg:
        angle = rng.uniform(-options.rotate_deg, options.rotate_deg)
        corner = image.getpixel((0, 0))
        image = image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=corner)
    box = random_crop_box(image.size, options.min_scale, options.max_aspect, rng)
    view = image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)
    if rng.random() < options.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for name in rng.permutation(list(ENHANCERS)):
        strength = getattr(options, name)
        if strength:
            factor = rng.uniform(max(0.0, 1 - strength), 1 + strength)
            view = ENHANCERS[name](view).enhance(factor)
    pixels = np.array(view)
    if rng.random() < options.erase:
        _erase(pixels, rng)
    return pixels


def random_crop_box(
    size: tuple[int, int], min_scale: float, max_aspect: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A crop of random area and aspect that lies inside the image (Inception's crop).

    Args:
        size: width, height of the image.
        min_scale: smallest area, as a share of the image's.
        max_aspect: >= 1; width / height is drawn log-uniformly between its inverse and it.
        rng: drawn from until a crop fits, ten times at most; then the largest that fits is centred.

    Returns:
        left, top, right, bottom in pixels.

    Source: Szegedy et al. 2014, arXiv:1409.4842, section 6.
    """
    width, height = size
    limit = math.log(max_aspect)
    for _ in range(10):
        area = width * height * rng.uniform(min_scale, 1)
        aspect = math.exp(rng.uniform(-limit, limit))
        crop_w, crop_h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if crop_w <= width and crop_h <= height:
            left, top = rng.uniform(0, width - crop_w), rng.uniform(0, height - crop_h)
            return _inside(left, top, crop_w, crop_h, size)
    aspect = min(max(width / height, 1 / max_aspect), max_aspect)
    crop_w, crop_h = min(width, height * aspect), min(height, width / aspect)
    return _inside((width - crop_w) / 2, (height - crop_h) / 2, crop_w, crop_h, size)


def _inside(
    left: float, top: float, crop_w: float, crop_h: float, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The box, without the last digit by which rounding may let it stick out of the image."""
    return left, top, min(left + crop_w, size[0]), min(top + crop_h, size[1])


def _erase(pixels: NDArray[np.uint8], rng: np.random.Generator) -> None:
    height, width = pixels.shape[:2]
    area = height * width * rng.uniform(*ERASED_SHARE)
    aspect = math.exp(rng.uniform(-1, 1))
    erase_h = min(height, max(1, round(math.sqrt(area * aspect))))
    erase_w = min(width, max(1, round(math.sqrt(area / aspect))))
    top = int(rng.integers(0, height - erase_h + 1))
    left = int(rng.integers(0, width - erase_w + 1))
    pixels[top : top + erase_h, left : left + erase_w] = GREY

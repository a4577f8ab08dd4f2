"""What cameras and networks do to a view: blur, noise, JPEG artefacts, an occluded part."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from train.options import AugmentOptions

__all__ = ["GREY", "add_noise", "corrupt", "erase", "jpeg_round_trip"]

GREY = 128
ERASED_SHARE = (0.02, 0.2)  # of the view's area; random erasing, arXiv:1708.04896
BEST_QUALITY = 95  # above it JPEG files grow and nobody sees why


def corrupt(
    view: Image.Image, options: AugmentOptions, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Blur, noise, JPEG and erasing in the order of a camera: optics, sensor, file, occlusion.

    Args:
        view: RGB.
        options: the probability and strength of each; what is off draws nothing from `rng`.
        rng: all randomness.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    if options.blur and rng.random() < options.blur:
        radius = rng.uniform(0, options.blur_radius_px)
        view = view.filter(ImageFilter.GaussianBlur(radius))
    pixels = np.array(view)
    if options.noise and rng.random() < options.noise:
        pixels = add_noise(pixels, rng.uniform(0, options.noise_levels), rng)
    if options.jpeg and rng.random() < options.jpeg:
        pixels = jpeg_round_trip(pixels, int(rng.integers(options.jpeg_quality, BEST_QUALITY + 1)))
    if rng.random() < options.erase:
        erase(pixels, rng)
    return pixels


def add_noise(
    pixels: NDArray[np.uint8], levels: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Add Gaussian noise to every value.

    Args:
        pixels: (H, W, 3).
        levels: standard deviation, in grey levels of 255.
        rng: of the noise.
    """
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    noise *= np.float32(levels)
    noise += pixels
    return np.rint(noise, out=noise).clip(0, 255).astype(np.uint8)


def jpeg_round_trip(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Encode as JPEG and decode again.

    Args:
        pixels: (H, W, 3) RGB.
        quality: of libjpeg, 1 to 95; its chroma is subsampled 2 x 2, as cameras do.
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file, formats=["JPEG"]))


def erase(pixels: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Paint a random rectangle grey, in place.

    Args:
        pixels: (H, W, 3).
        rng: of the rectangle.

    Source: Zhong et al. 2017, arXiv:1708.04896 (there up to 40 % and filled with noise).
    """
    height, width = pixels.shape[:2]
    area = height * width * rng.uniform(*ERASED_SHARE)
    aspect = math.exp(rng.uniform(-1, 1))
    erase_h = min(height, max(1, round(math.sqrt(area * aspect))))
    erase_w = min(width, max(1, round(math.sqrt(area / aspect))))
    top = int(rng.integers(0, height - erase_h + 1))
    left = int(rng.integers(0, width - erase_w + 1))
    pixels[top : top + erase_h, left : left + erase_w] = GREY

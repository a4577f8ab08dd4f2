"""Random views of a training image: a pure function of (image, options, generator)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from train.augment.auto_augment import apply_policy
from train.augment.color_jitter import draw_colours, recolour
from train.augment.degrade import corrupt
from train.options import AugmentOptions

__all__ = [
    "Box",
    "jitter_box",
    "may_recolour_later",
    "random_crop_box",
    "random_view",
    "uncoloured_view",
]

Box = tuple[float, float, float, float]  # left, top, right, bottom, px

FILTERS = {
    "bicubic": (Image.Resampling.BICUBIC,),
    "bilinear": (Image.Resampling.BILINEAR,),
    "mixed": (
        Image.Resampling.BILINEAR,
        Image.Resampling.BICUBIC,
        Image.Resampling.BOX,
        Image.Resampling.HAMMING,
        Image.Resampling.LANCZOS,
    ),
}


def random_view(
    pixels: NDArray[np.uint8], size_px: int, options: AugmentOptions, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw one random view of an image.

    Args:
        pixels: (H, W, 3) upright RGB.
        size_px: side of the view.
        options: what may change, and how much; what changes batches (multi_scale, mixup, cutmix)
            is not done here.
        rng: all randomness of the view; equal generators give equal views.

    Returns:
        (size_px, size_px, 3) uint8 RGB.
    """
    view = _placed(pixels, size_px, options, rng)
    view = recolour(view, draw_colours(view, options, rng))
    return corrupt(view, options, rng)


def may_recolour_later(options: AugmentOptions) -> bool:
    """Whether nothing follows the colours, so that they can be applied to whole batches."""
    return not (options.blur or options.noise or options.jpeg or options.erase)


def uncoloured_view(
    pixels: NDArray[np.uint8], size_px: int, options: AugmentOptions, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The same view before its colours change, and their (3, 4) map: see `color_jitter`."""
    view = _placed(pixels, size_px, options, rng)
    return np.array(view), draw_colours(view, options, rng)


def _placed(
    pixels: NDArray[np.uint8], size_px: int, options: AugmentOptions, rng: np.random.Generator
) -> Image.Image:
    """Rotated, cropped, resized, mirrored, and what a policy does."""
    if options.rotate_deg:
        angle = rng.uniform(-options.rotate_deg, options.rotate_deg)
        image = Image.fromarray(pixels)
        corner = image.getpixel((0, 0))
        pixels = np.asarray(image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=corner))
    size = pixels.shape[1], pixels.shape[0]
    box = random_crop_box(size, options.min_scale, options.max_aspect, rng)
    if options.box_jitter:
        box = jitter_box(box, size, options.box_jitter, rng)
    filters = FILTERS[options.resample]
    resample = filters[int(rng.integers(len(filters)))]  # one of one draws nothing
    if options.resample == "mixed":
        view = Image.fromarray(pixels).resize((size_px, size_px), resample, box=box)
    else:
        view = Image.fromarray(_resized(pixels, box, size_px, options.resample))
    if rng.random() < options.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return apply_policy(view, options, rng) if options.policy != "none" else view


def _resized(
    pixels: NDArray[np.uint8], box: Box, size_px: int, filter_name: str
) -> NDArray[np.uint8]:
    """A box of an image at the view's size: Pillow's antialiased filters, by torch.

    Torch's take a fifth of the time, differ by a level or two in one value of a hundred, and know
    whole pixels only. What serves and validates uses Pillow: `serve.contract.preprocess`.
    """
    left, top = math.floor(box[0]), math.floor(box[1])
    right, bottom = math.ceil(box[2]), math.ceil(box[3])
    # A batch of one before the transpose: so torch sees channels-last, and copies nothing.
    crop = np.array(pixels[None, top:bottom, left:right], order="C")
    planes = torch.from_numpy(crop).permute(0, 3, 1, 2)
    side = (size_px, size_px)
    resized = F.interpolate(planes, side, mode=filter_name, antialias=True, align_corners=False)
    return resized.permute(0, 2, 3, 1)[0].numpy()


def random_crop_box(
    size: tuple[int, int], min_scale: float, max_aspect: float, rng: np.random.Generator
) -> Box:
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


def jitter_box(box: Box, size: tuple[int, int], share: float, rng: np.random.Generator) -> Box:
    """Move each edge of a box on its own, so that position, size and aspect all vary.

    Args:
        box: inside the image.
        size: width, height of the image, which the moved edges stay within.
        share: 0 to 0.5; how far an edge moves at most, of the box's side across it.
        rng: of the four moves.

    Returns:
        The moved box; two edges that would come closer than a pixel stay where they were.
    """
    moves = rng.uniform(-share, share, 4)
    left, right = _moved(box[0], box[2], moves[0], moves[2], size[0])
    top, bottom = _moved(box[1], box[3], moves[1], moves[3], size[1])
    return left, top, right, bottom


def _moved(
    low: float, high: float, low_share: float, high_share: float, limit: int
) -> tuple[float, float]:
    side = high - low
    moved = max(0.0, low + low_share * side), min(float(limit), high + high_share * side)
    return moved if moved[1] - moved[0] >= 1 else (low, high)


def _inside(left: float, top: float, crop_w: float, crop_h: float, size: tuple[int, int]) -> Box:
    """The box, without the last digit by which rounding may let it stick out of the image."""
    return left, top, min(left + crop_w, size[0]), min(top + crop_h, size[1])

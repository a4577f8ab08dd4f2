"""Brightness, contrast and saturation of a view as one linear map, drawn now and applied anywhere.

Each of them is linear in (R, G, B, 1), contrast by way of the picture's mean colour; so any order
of them is one matrix, and one pass over the pixels, in a loader worker or on the GPU.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from train.options import AugmentOptions

__all__ = ["draw_colours", "recolour", "recolour_batch"]

KINDS = ("brightness", "contrast", "saturation")
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's mode L


def draw_colours(
    view: Image.Image, options: AugmentOptions, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw the factors and their order, and combine them.

    Args:
        view: RGB, for its mean colour.
        options: brightness, contrast and saturation; what is 0 draws nothing.
        rng: all randomness.

    Returns:
        (3, 4) map from (R, G, B, 1) in 0..255 to (R, G, B); where nothing clips it does what
        Pillow's ImageEnhance does one after the other, without rounding in between.
    """
    colours = np.eye(4)
    for kind in rng.permutation(list(KINDS)):
        strength = getattr(options, kind)
        if strength:
            factor = rng.uniform(max(0.0, 1 - strength), 1 + strength)
            colours = _map_of(kind, factor, colours, view) @ colours
    return colours[:3].astype(np.float32)


def recolour(view: Image.Image, colours: NDArray[np.float32]) -> Image.Image:
    """Apply a map to an RGB image; values are rounded and clipped once."""
    if (colours == np.eye(3, 4)).all():
        return view
    return view.convert("RGB", cast(Any, tuple(colours.ravel().tolist())))


def recolour_batch(images: Tensor, colours: Tensor) -> Tensor:
    """Apply a map to each image of a batch, on its device.

    Args:
        images: (N, H, W, 3) uint8.
        colours: (N, 3, 4) float32, on the same device.

    Returns:
        (N, H, W, 3) uint8, as `recolour` gives them but for ties of rounding.
    """
    factors, added = colours[:, :, :3], colours[:, :, 3]
    mapped = torch.einsum("nhwc,ndc->nhwd", images.float(), factors) + added[:, None, None, :]
    return (mapped + 0.5).clamp(0, 255).to(torch.uint8)


def _map_of(
    kind: str, factor: float, so_far: NDArray[np.float64], view: Image.Image
) -> NDArray[np.float64]:
    """(4, 4): from the degenerate picture (black, mean grey, grey) to the picture, by a factor."""
    step = np.diag([factor, factor, factor, 1.0])
    if kind == "saturation":
        step[:3, :3] += (1 - factor) * LUMA
    elif kind == "contrast":
        red, green, blue = cast(tuple[float, ...], view.reduce(view.size).getpixel((0, 0)))
        step[:3, 3] = (1 - factor) * (LUMA @ (so_far @ (red, green, blue, 1))[:3])
    return step

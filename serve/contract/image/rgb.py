"""Any mode of Pillow's -> 8-bit RGB, without a second full-size copy of what was decoded.

A stranger's 40 megapixels are 160 MB once decoded; each further copy is as much again, for as many
images as are decoded at once.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["rgb_from"]

BAND_PX = 2**20  # of an image whose alpha is composited at once
# 65535 -> 255: rescaled, never clipped
BYTE_OF_LEVEL = np.rint(np.arange(65536) / 257).astype(np.uint8)


def rgb_from(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Expand grey and palettes, rescale 16 bits, composite alpha on the background."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_levels(image, background)
    if "A" in image.getbands() or "transparency" in image.info:
        return _composited(image, background)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_levels(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    levels = np.asarray(image)
    if levels.dtype != np.uint16:
        levels = levels.clip(0, 65535).astype(np.uint16)
    result = Image.fromarray(BYTE_OF_LEVEL[levels], "L").convert("RGB")
    if (clear := image.info.get("transparency")) is not None:
        result.paste(background, mask=Image.fromarray(levels == clear))
    return result


def _composited(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Some rows at a time; rows that are all opaque or all clear need no arithmetic."""
    width, height = image.size
    rows = max(1, BAND_PX // max(1, width))
    result = Image.new("RGB", image.size, background)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        if band.mode != "RGBA":
            band = band.convert("RGBA")
        alphas: object = band.getchannel("A").getextrema()
        if alphas == (0, 0):
            continue
        if alphas != (255, 255):
            band = Image.alpha_composite(Image.new("RGBA", band.size, (*background, 255)), band)
        result.paste(band.convert("RGB"), (0, top))
    return result

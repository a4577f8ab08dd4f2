"""Bytes of an image file -> uint8 pixels: the only evaluation and serving transform there is.

Training-time evaluation, FixRes, calibration, parity and the server all call `preprocess`, so the
same bytes give the same pixels everywhere. Normalisation is not here: it is inside the ONNX graph.

What the rules are, so that no pixel is silently wrong:

* The format is sniffed from the content; only JPEG, PNG and WebP are opened.
* Text and colour profiles of a PNG are skipped unread, whatever they hold.
* Dimensions are read and limited before anything is decoded.
* EXIF orientation is applied. ICC profiles are ignored.
* Grey is repeated to RGB; palette and 1-bit images are expanded; CMYK is converted by Pillow.
* Alpha is composited on the background colour of the spec.
* 16-bit grey is rescaled by 257 (65535 -> 255), never clipped; of 16-bit colour Pillow keeps the
  upper byte. JPEG has 8 bits; 12-bit and lossless ones are refused by name.
* A JPEG that takes more than 200 MB is decoded at half its sides
  (`serve.contract.image.decode_cost`).
* Animations are refused: which frame was meant is not ours to guess.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from serve.contract.errors import EmptyImage, TooLargeImage, UnsupportedImage
from serve.contract.image.decode_cost import (
    DEFAULT_LIMITS,
    NO_LIMITS,
    DecodeLimits,
    charge_of,
    check_cost,
    shrink_of,
    without_text,
)
from serve.contract.image.sniff import ending_is_missing, image_error, unsupported
from serve.contract.spec import INTERPOLATIONS, PreprocessSpec

__all__ = [
    "DEFAULT_LIMITS",
    "NO_LIMITS",
    "DecodeLimits",
    "PreprocessSpec",
    "charge_of_file",
    "crop_and_resize",
    "decode",
    "preprocess",
    "read_size",
    "rgb_from",
]

FORMATS = ("JPEG", "PNG", "WEBP")
FILTERS = {name: Image.Resampling[name.upper()] for name in INTERPOLATIONS}
QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `warnings` keeps its filters
Size = tuple[int, int]  # width and height in pixels
BAND_PX = 2**20  # of an image whose alpha is composited at once
# 65535 -> 255: rescaled, never clipped
BYTE_OF_LEVEL = np.rint(np.arange(65536) / 257).astype(np.uint8)


def preprocess(
    data: bytes, spec: PreprocessSpec, limits: DecodeLimits = DEFAULT_LIMITS
) -> NDArray[np.uint8]:
    """Turn the bytes of an image file into what the model sees.

    Args:
        data: the file, unchanged.
        spec: size, crop and filter.
        limits: refused above these.

    Returns:
        (size_px, size_px, 3) uint8 RGB.

    Raises:
        ImageError: the bytes are not an acceptable image; the subclass says why.
    """
    return preprocess_sized(data, spec, limits)[0]


def preprocess_sized(
    data: bytes,
    spec: PreprocessSpec,
    limits: DecodeLimits = DEFAULT_LIMITS,
    room: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> tuple[NDArray[np.uint8], Size]:
    """As `preprocess`, with the width and height of the upright image.

    Args:
        data: the file, unchanged.
        spec: size, crop and filter.
        limits: refused above these.
        room: entered with the bytes that decoding takes, while it takes them.
    """
    opened, scans = _open(data, limits)
    shrink = shrink_of(opened, scans)
    with room(charge_of(opened, scans)):
        image = _decoded(opened, data, spec.background, shrink)
        size = (image.width * shrink, image.height * shrink)
        return np.asarray(crop_and_resize(image, spec)), size


def decode(
    data: bytes,
    background: tuple[int, int, int] = (255, 255, 255),
    limits: DecodeLimits = DEFAULT_LIMITS,
    *,
    at_least_px: int = 0,
) -> Image.Image:
    """Decode an image file to an upright 8-bit RGB image.

    Args:
        data: the file, unchanged.
        background: behind transparent pixels.
        limits: refused above these.
        at_least_px: JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, while no side is shorter
            than this. 0 decodes as evaluation and serving do.

    Raises:
        ImageError: as `preprocess`.
    """
    opened, scans = _open(data, limits)
    return _decoded(opened, data, background, shrink_of(opened, scans), at_least_px)


def read_size(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Width and height in pixels as stored, before EXIF, without decoding.

    Raises:
        ImageError: as `preprocess`, for all that the header shows.
    """
    return _open(data, limits)[0].size


def charge_of_file(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> int:
    """Bytes of memory that decoding takes, by the header.

    Raises:
        ImageError: as `preprocess`, for all that the header shows.
    """
    return charge_of(*_open(data, limits))


def crop_and_resize(image: Image.Image, spec: PreprocessSpec) -> Image.Image:
    """Resize the shorter side to round(size_px / crop_pct), then crop the central square.

    The crop is taken in source coordinates, so only pixels that end up in the square are computed;
    resizing all and cropping would differ only by rounding the crop to whole pixels.

    Returns:
        RGB image of size_px x size_px.
    """
    width, height = image.size
    shorter = min(width, height)
    # Rounding must not make the box stick out of the image, which Pillow refuses.
    side = min(shorter, shorter * spec.size_px / round(spec.size_px / spec.crop_pct))
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, min(left + side, width), min(top + side, height))
    return image.resize((spec.size_px, spec.size_px), FILTERS[spec.interpolation], box=box)


def _hush() -> None:
    """Pillow warns of odd EXIF and palettes, by its own paths; the pixels are checked.

    One filter for good: those that come and go are the process's, and threads restore each other's.
    """
    if QUIET not in warnings.filters[:1]:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _open(data: bytes, limits: DecodeLimits) -> tuple[Image.Image, int]:
    """An image that was opened and not loaded, and the scans of its file."""
    if not data:
        raise EmptyImage("The body holds no bytes.", "Send the bytes of an image file.")
    if len(data) > limits.max_bytes:
        raise TooLargeImage(f"{len(data)} bytes are more than the limit of {limits.max_bytes}.")
    _hush()
    Image.MAX_IMAGE_PIXELS = None  # the limits below hold, before a pixel is decoded
    try:
        image = Image.open(io.BytesIO(without_text(data)), formats=FORMATS)
    except UnidentifiedImageError as error:
        if ending_is_missing(data) is not None:  # the beginning is right, so it was such an image
            raise image_error(error, data) from error
        raise unsupported(data) from error
    except Exception as error:  # as in `_decoded`
        raise image_error(error, data) from error
    scans = check_cost(image, data, limits)
    # MPO is what phones write: a JPEG image first, then a depth map or preview.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise UnsupportedImage("Animated images are not accepted.", "Send a single frame.")
    return image, scans


def _decoded(
    image: Image.Image,
    data: bytes,
    background: tuple[int, int, int],
    shrink: int,
    at_least_px: int = 0,
) -> Image.Image:
    try:
        if at_least_px or shrink > 1:  # a draft has an effect on JPEG alone
            width, height = image.width // shrink, image.height // shrink
            least_px = at_least_px or max(width, height)
            image.draft(None, (min(width, least_px), min(height, least_px)))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # else it copies, upright or not
        return rgb_from(image, background)
    except Exception as error:  # decoders raise a dozen unrelated types
        raise image_error(error, data) from error


def rgb_from(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any mode of Pillow's -> 8-bit RGB, without a second full-size copy of what was decoded.

    Grey and palettes are expanded, 16 bits rescaled, alpha composited on the background. A
    stranger's 40 megapixels are 160 MB once decoded; each further copy is as much again, for as
    many images as are decoded at once.
    """
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

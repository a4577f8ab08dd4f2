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
import math
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from serve.contract.errors import (
    EmptyImage,
    ImageError,
    TooLargeImage,
    TooManyPixels,
    TruncatedImage,
    UndecodableImage,
    UnsupportedImage,
)
from serve.contract.image.decode_cost import JPEG_BYTES, charge_of, shrink_of
from serve.contract.image.jpeg_scans import MOST_SCANS, scans_of
from serve.contract.image.png_chunks import without_text
from serve.contract.image.rgb import rgb_from
from serve.contract.image.sniff import kind_of
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
]

FORMATS = ("JPEG", "PNG", "WEBP")
FILTERS = {name: Image.Resampling[name.upper()] for name in INTERPOLATIONS}
QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `warnings` keeps its filters
Size = tuple[int, int]  # width and height in pixels
MAX_PIXELS_A_BYTE = 10_000  # deflate reaches 8 256, in a PNG of one colour and one bit
SCANS_OF_LARGEST = 12  # of the largest image; 10 is what encoders write, more where it is smaller


@dataclass(frozen=True)
class DecodeLimits:
    """What an image may cost, by default a stranger's. Checked before the first pixel is decoded.

    Args:
        max_bytes: of the file.
        max_pixels: width times height.
        max_side_px: width, and height.
        max_charge: bytes by `charge_of`, whatever the format; what a JPEG of `max_pixels` takes.
    """

    max_bytes: int = 10 * 2**20
    max_pixels: int = 50_000_000
    max_side_px: int = 16_384
    max_charge: float = 50_000_000 * JPEG_BYTES

    @classmethod
    def for_strangers(cls, megapixels: float, max_bytes: int) -> DecodeLimits:
        """Limits by cost: what a JPEG of so many megapixels takes."""
        pixels = round(megapixels * 1e6)
        return cls(max_bytes, pixels, max_charge=pixels * JPEG_BYTES)


DEFAULT_LIMITS = DecodeLimits()
# Of one's own images, once an audit let them pass.
NO_LIMITS = DecodeLimits(2**63, 2**63, 2**63, math.inf)


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
        ImageError: the bytes are no acceptable image; the subclass says why.
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
    opened = _open(data, limits)
    shrink = shrink_of(opened, data)
    with room(charge_of(opened, data)):
        image = _decoded(opened, data, spec.background)
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
    return _decoded(_open(data, limits), data, background, at_least_px)


def read_size(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Width and height in pixels as stored, before EXIF, without decoding.

    Raises:
        ImageError: as `preprocess`, for all that the header shows.
    """
    return _open(data, limits).size


def charge_of_file(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> int:
    """Bytes of memory that decoding takes, by the header.

    Raises:
        ImageError: as `preprocess`, for all that the header shows.
    """
    return charge_of(_open(data, limits), data)


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


def _open(data: bytes, limits: DecodeLimits) -> Image.Image:
    if not data:
        raise EmptyImage("The body holds no bytes.", "Send the bytes of an image file.")
    if len(data) > limits.max_bytes:
        raise TooLargeImage(f"{len(data)} bytes are more than the limit of {limits.max_bytes}.")
    _hush()
    Image.MAX_IMAGE_PIXELS = None  # the limits below hold, before a pixel is decoded
    try:
        image = Image.open(io.BytesIO(without_text(data)), formats=FORMATS)
    except UnidentifiedImageError as error:
        if _ending_is_missing(data) is not None:  # the beginning is right, so it was such an image
            raise _as_image_error(error, data) from error
        raise _unsupported(data) from error
    except Exception as error:  # as in `_decoded`
        raise _as_image_error(error, data) from error
    _check_cost(image, data, limits)
    # MPO is what phones write: a JPEG photograph first, then a depth map or preview.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise UnsupportedImage("Animated images are not accepted.", "Send a single frame.")
    return image


def _check_cost(image: Image.Image, data: bytes, limits: DecodeLimits) -> None:
    width, height = image.size
    pixels = width * height
    if pixels > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise TooManyPixels(
            f"{width} x {height} pixels are more than the limit of {limits.max_pixels} pixels "
            f"and {limits.max_side_px} a side."
        )
    scans = scans_of(data)
    if scans > MOST_SCANS:
        raise UndecodableImage(
            f"The JPEG has more than {MOST_SCANS} scans.", "Save it again by any program."
        )
    if limits.max_charge == math.inf:
        return
    charge = charge_of(image, data)
    if charge > limits.max_charge:
        most = pixels * limits.max_charge / charge / 1e6
        raise TooManyPixels(
            f"{pixels / 1e6:.1f} megapixels are more than the {most:.1f} that fit in what "
            f"decoding may cost here, for a {_kind_of(image, scans)}.",
            "Send it smaller, or as a JPEG that is not progressive.",
        )
    if pixels > MAX_PIXELS_A_BYTE * len(data):
        raise TooManyPixels(f"{pixels} pixels in {len(data)} bytes are no picture.")
    if pixels * scans > SCANS_OF_LARGEST * limits.max_charge / JPEG_BYTES:
        raise TooManyPixels(
            f"{scans} scans of {pixels / 1e6:.1f} megapixels cost more than decoding may here.",
            "Save it as a JPEG that is not progressive.",
        )


def _kind_of(image: Image.Image, scans: int) -> str:
    if image.format in ("PNG", "WEBP"):
        return f"{image.format} image"
    return f"{'progressive ' * (scans > 1)}JPEG"


def _decoded(
    image: Image.Image, data: bytes, background: tuple[int, int, int], at_least_px: int = 0
) -> Image.Image:
    try:
        shrink = shrink_of(image, data)
        if at_least_px or shrink > 1:  # a draft has an effect on JPEG alone
            width, height = image.width // shrink, image.height // shrink
            least_px = at_least_px or max(width, height)
            image.draft(None, (min(width, least_px), min(height, least_px)))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # else it copies, upright or not
        return rgb_from(image, background)
    except Exception as error:  # decoders raise a dozen unrelated types
        raise _as_image_error(error, data) from error


def _as_image_error(error: Exception, data: bytes) -> ImageError:
    if kind_of(data).name:
        return _unsupported(data)
    if _says_truncated(error) or _ending_is_missing(data):
        return TruncatedImage("The image file ends before the image does.", "Send the whole file.")
    return UndecodableImage("The image data is damaged.", "Check that the file opens elsewhere.")


def _unsupported(data: bytes) -> UnsupportedImage:
    name, next_step = kind_of(data)
    what = f"{name}, no JPEG, PNG or WebP image" if name else "no JPEG, PNG or WebP image"
    return UnsupportedImage(f"This is {what}.", next_step)


def _says_truncated(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, EOFError) or any(
        word in text for word in ("truncated", "end of", "unexpected eof", "premature")
    )


def _ending_is_missing(data: bytes) -> bool | None:
    """Whether a file that starts as one of FORMATS lacks its end; None when it starts otherwise."""
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data[-64:]  # cameras pad after the end marker
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return None

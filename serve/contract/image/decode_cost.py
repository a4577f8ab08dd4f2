"""What decoding an image will cost, by its header: bytes of memory, and with them time.

Measured by `python -m benchmarks.decode_cost` (docs/serving.md, "What an image costs"): a JPEG's
memory is known to a few per cent; PNG and WebP are charged somewhat more than their memory, so that
equal charges also take about equal time. A charge of 200 MB, the most that a stranger's image may
cost by default, is at most some 0.9 s of one core.
"""

from __future__ import annotations

from PIL import Image

from serve.contract.image.jpeg_scans import scans_of

__all__ = ["JPEG_BYTES", "charge_of", "shrink_of"]

JPEG_BYTES = 4  # a pixel of the cheapest image: Pillow keeps RGB in 32 bits
MOST_WHOLE_BYTES = 200_000_000  # of a JPEG that is decoded at its full size

# Bytes of a pixel: of a decoded JPEG, and of that and what it is converted to.
JPEG_DECODED = {"RGB": 4.25, "L": 1.0, "CMYK": 4.0}
JPEG_CONVERTED = {"RGB": 4.25, "L": 5.25, "CMYK": 8.25}
CHARGE = {"PNG": 12.0, "WEBP": 24.0}
PNG_16_BIT_COLOURS = 16.0  # no more memory, but twice the bytes to undo the filters of
COEFFICIENT_BYTES = 2  # libjpeg keeps them all while an image has more than one scan
MOST_A_PIXEL = 12.25  # decoded, and the coefficients of four bands at full size


def shrink_of(image: Image.Image, data: bytes) -> int:
    """By how much a JPEG's sides are divided while it is decoded: 1, 2, 4 or 8.

    What would take more than 200 MB whole, 47 megapixels or 27 of a progressive image, is decoded
    at half its sides, in training as in serving: at a quarter of the cost.
    """
    if image.format not in ("JPEG", "MPO"):
        return 1
    if image.width * image.height * MOST_A_PIXEL <= MOST_WHOLE_BYTES:
        return 1  # whatever its scans, which take long to count
    if _jpeg_bytes(image, data, 1) <= MOST_WHOLE_BYTES:
        return 1
    shrink = 2
    converted = image.width * image.height * JPEG_CONVERTED.get(image.mode, 8.25)
    while shrink < 8 and converted / shrink**2 > MOST_WHOLE_BYTES:
        shrink *= 2
    return shrink


def charge_of(image: Image.Image, data: bytes) -> int:
    """Bytes that decoding an opened image takes at its peak.

    Args:
        image: opened, not loaded.
        data: its file.
    """
    if image.format not in ("JPEG", "MPO"):
        return int(image.width * image.height * _charge_a_pixel(image))
    return _jpeg_bytes(image, data, shrink_of(image, data))


def _jpeg_bytes(image: Image.Image, data: bytes, shrink: int) -> int:
    pixels = image.width * image.height
    left = pixels / shrink**2
    decoded = left * JPEG_DECODED.get(image.mode, 4.25)
    coefficients = pixels * _coefficients_a_pixel(image, data) * COEFFICIENT_BYTES
    return int(max(decoded + coefficients, left * JPEG_CONVERTED.get(image.mode, 8.25)))


def _charge_a_pixel(image: Image.Image) -> float:
    stored = str(getattr(image, "tile", ""))  # Pillow's name for the layout in the file
    if image.format == "PNG" and not image.mode.startswith("I") and ";16" in stored:
        return PNG_16_BIT_COLOURS
    return CHARGE[image.format or ""]


def _coefficients_a_pixel(image: Image.Image, data: bytes) -> float:
    """That the decoder must hold at once: none of a JPEG that comes in one scan."""
    if "progressive" not in image.info and scans_of(data) <= 1:
        return 0.0
    areas: list[int] = [across * down for _, across, down, *_ in getattr(image, "layer", [])]
    return sum(areas) / max(areas, default=1)

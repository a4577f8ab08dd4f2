"""What decoding an image will cost, by its header: bytes of memory, and with them time.

Measured by `python -m benchmarks.decode_cost` (docs/serving.md, "What an image costs"): a JPEG's
memory is known to a few per cent; PNG and WebP are charged somewhat more than their memory, so that
equal charges also take about equal time. A charge of 200 MB, the most that a stranger's image may
cost by default, is at most some 0.9 s of one core.

A progressive JPEG is a list of scans, ten as encoders write it. Each is a pass over the whole
image, and may be 14 bytes long: 100 kB can hold a decoder of 40 megapixels for ten minutes. So
scans are counted, and limited as pixels are.

A PNG's text and colour profile are skipped unread: not a pixel depends on them, editors and image
generators write megabytes of them, and a few bytes may inflate to gigabytes. What says how the
image stands (EXIF in text form, XMP) is kept while it is small, since eXIf, the chunk for it, came
late.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass

from PIL import Image

from serve.contract.errors import TooManyPixels, UndecodableImage

__all__ = [
    "DEFAULT_LIMITS",
    "JPEG_BYTES",
    "MOST_SCANS",
    "NO_LIMITS",
    "DecodeLimits",
    "charge_of",
    "check_cost",
    "scans_of",
    "shrink_of",
    "without_text",
]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SKIPPED = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
ORIENTATION = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp")  # keywords that may say it
MOST_KEPT = 2**20  # bytes of such a text, inflated; a decoder refuses more
AROUND = 12  # bytes of a chunk beside its data: length, name and checksum

Place = tuple[int, int]  # where a chunk begins and ends

JPEG_BYTES = 4  # a pixel of the cheapest image: Pillow keeps RGB in 32 bits
MOST_WHOLE_BYTES = 200_000_000  # of a JPEG that is decoded at its full size

# Bytes of a pixel: of a decoded JPEG, and of that and what it is converted to.
JPEG_DECODED = {"RGB": 4.25, "L": 1.0, "CMYK": 4.0}
JPEG_CONVERTED = {"RGB": 4.25, "L": 5.25, "CMYK": 8.25}
MOST_A_PIXEL = 12.25  # decoded, and the coefficients of four bands at full size
CHARGE = {"PNG": 12.0, "WEBP": 24.0}
PNG_16_BIT_COLOURS = 16.0  # no more memory, but twice the bytes to undo the filters of
COEFFICIENT_BYTES = 2  # libjpeg keeps them all while an image has more than one scan
MAX_PIXELS_A_BYTE = 10_000  # deflate reaches 8 256, in a PNG of one colour and one bit
SCANS_OF_LARGEST = 12  # of the largest image; 10 is what encoders write, more where it is smaller
MOST_SCANS = 64
START_OF_SCAN = b"\xff\xda"
END = 0xD9
# One byte of filling, however many there are: with more the search would try each run from each
# of its places.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
NO_LENGTH = 0xC0  # of markers below; within a scan a decoder passes over them, and goes on


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


def shrink_of(image: Image.Image, scans: int) -> int:
    """By how much a JPEG's sides are divided while it is decoded: 1, 2, 4 or 8.

    What would take more than 200 MB whole, 47 megapixels or 27 of a progressive image, is decoded
    at half its sides, in training as in serving: at a quarter of the cost.

    Args:
        image: opened, not loaded.
        scans: of its file, from `scans_of`.
    """
    if image.format not in ("JPEG", "MPO"):
        return 1
    if image.width * image.height * MOST_A_PIXEL <= MOST_WHOLE_BYTES:
        return 1
    if _jpeg_bytes(image, scans, 1) <= MOST_WHOLE_BYTES:
        return 1
    shrink = 2
    converted = image.width * image.height * JPEG_CONVERTED.get(image.mode, 8.25)
    while shrink < 8 and converted / shrink**2 > MOST_WHOLE_BYTES:
        shrink *= 2
    return shrink


def charge_of(image: Image.Image, scans: int) -> int:
    """Bytes that decoding an opened image takes at its peak.

    Args:
        image: opened, not loaded.
        scans: of its file, from `scans_of`.
    """
    if image.format not in ("JPEG", "MPO"):
        return int(image.width * image.height * _charge_a_pixel(image))
    return _jpeg_bytes(image, scans, shrink_of(image, scans))


def _jpeg_bytes(image: Image.Image, scans: int, shrink: int) -> int:
    pixels = image.width * image.height
    left = pixels / shrink**2
    decoded = left * JPEG_DECODED.get(image.mode, 4.25)
    coefficients = pixels * _coefficients_a_pixel(image, scans) * COEFFICIENT_BYTES
    return int(max(decoded + coefficients, left * JPEG_CONVERTED.get(image.mode, 8.25)))


def _charge_a_pixel(image: Image.Image) -> float:
    stored = str(getattr(image, "tile", ""))  # Pillow's name for the layout in the file
    if image.format == "PNG" and not image.mode.startswith("I") and ";16" in stored:
        return PNG_16_BIT_COLOURS
    return CHARGE[image.format or ""]


def _coefficients_a_pixel(image: Image.Image, scans: int) -> float:
    """That the decoder must hold at once: none of a JPEG that comes in one scan."""
    if "progressive" not in image.info and scans <= 1:
        return 0.0
    areas: list[int] = [across * down for _, across, down, *_ in getattr(image, "layer", [])]
    return sum(areas) / max(areas, default=1)


def check_cost(image: Image.Image, data: bytes, limits: DecodeLimits) -> int:
    """Refuse an opened image that costs more than the limits allow, before a pixel is decoded.

    Returns:
        The scans of its file, which take long to count.

    Raises:
        TooManyPixels: by its header, its charge or its scans.
        UndecodableImage: more than MOST_SCANS scans.
    """
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
        return scans
    charge = charge_of(image, scans)
    if charge > limits.max_charge:
        most = pixels * limits.max_charge / charge / 1e6
        raise TooManyPixels(
            f"{pixels / 1e6:.1f} megapixels are more than the {most:.1f} that fit in what "
            f"decoding may cost here, for a {_kind_of(image, scans)}.",
            "Send it smaller, or as a JPEG that is not progressive.",
        )
    if pixels > MAX_PIXELS_A_BYTE * len(data):
        raise TooManyPixels(f"{pixels} pixels in {len(data)} bytes are not an image.")
    if pixels * scans > SCANS_OF_LARGEST * limits.max_charge / JPEG_BYTES:
        raise TooManyPixels(
            f"{scans} scans of {pixels / 1e6:.1f} megapixels cost more than decoding may here.",
            "Save it as a JPEG that is not progressive.",
        )
    return scans


def _kind_of(image: Image.Image, scans: int) -> str:
    if image.format in ("PNG", "WEBP"):
        return f"{image.format} image"
    return f"{'progressive ' * (scans > 1)}JPEG"


def scans_of(data: bytes) -> int:
    """Scans of a JPEG up to the end of the image, or to one more than MOST_SCANS.

    Returns:
        0 for what is not a JPEG.
    """
    if not data.startswith(b"\xff\xd8"):
        return 0
    # Behind the image there may be a film, which holds these two bytes by chance.
    found = data.count(START_OF_SCAN)
    return found if found < 2 else _scans(data)


def _scans(data: bytes) -> int:
    """Scans up to the end of the image, or to one more than is allowed."""
    found, at = 0, 2
    while found <= MOST_SCANS and (marker := MARKER.search(data, at)):
        kind = marker[1][0]
        if kind == END:
            break
        if kind < NO_LENGTH:
            at = marker.end()
            continue
        found += kind == START_OF_SCAN[1]
        length = int.from_bytes(data[marker.end() : marker.end() + 2])
        at = marker.end() + max(2, length)
    return found


def without_text(data: bytes) -> bytes:
    """A PNG file without its text and colour profile; any other bytes as they are."""
    if not data.startswith(PNG_SIGNATURE) or not any(name in data for name in SKIPPED):
        return data
    pieces, at = [], 0
    for start, end in _skipped_chunks(data):
        pieces.append(data[at:start])
        at = end
    return b"".join([*pieces, data[at:]])


def _skipped_chunks(data: bytes) -> list[Place]:
    found: list[Place] = []
    kept: dict[bytes, Place] = {}  # of a keyword that comes twice, the last counts for a decoder
    at = len(PNG_SIGNATURE)
    while (end := at + AROUND + int.from_bytes(data[at : at + 4])) <= len(data):
        name = data[at + 4 : at + 8]
        if name == b"IEND":
            break
        if name in SKIPPED:
            found.append((at, end))
            keyword = data[at + 8 : at + 88].partition(b"\0")[0]
            if keyword in ORIENTATION:
                kept[keyword] = (at, end)
        at = end
    small = {place for place in kept.values() if _is_small(data[slice(*place)])}
    return [place for place in found if place not in small]


def _is_small(chunk: bytes) -> bool:
    """Whether a text chunk is small, and stays so when it is inflated."""
    name, body = chunk[4:8], chunk[8:-4]
    if len(body) > MOST_KEPT or name == b"iCCP":
        return False
    text = body.partition(b"\0")[2]
    if name == b"zTXt":
        packed = text[1:]
    elif name == b"iTXt" and text[:1] not in (b"", b"\0"):
        packed = text[2:].split(b"\0", 2)[-1]
    else:
        return True
    try:
        inflater = zlib.decompressobj()
        inflater.decompress(packed, MOST_KEPT)
        return not inflater.unconsumed_tail
    except zlib.error:
        return False

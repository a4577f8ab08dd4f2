"""The lean conversions give the pixels of the plain ones, and take less memory."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from serve.contract import preprocess as contract
from serve.contract.preprocess import rgb_from

BACKGROUND = (250, 120, 3)
SIZE = (37, 23)


def plainly(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, (*BACKGROUND, 255))
    return Image.alpha_composite(canvas, rgba).convert("RGB")


def noise(mode: str) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    random = np.random.default_rng(len(mode)).integers(0, 256, (*SIZE[::-1], bands), np.uint8)
    return Image.fromarray(random[..., 0] if bands == 1 else random, mode)


@pytest.mark.parametrize("band_px", [1, 100, 10**6])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "L", "P"])
def test_alpha_is_composited_as_at_once(mode: str, band_px: int, monkeypatch) -> None:
    monkeypatch.setattr(contract, "BAND_PX", band_px)
    image = noise("L" if mode == "P" else mode)
    if mode == "P":
        image = image.quantize(64)
    if "A" not in mode:
        image.info["transparency"] = image.getpixel((3, 3))
    found = rgb_from(image, BACKGROUND)
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(plainly(image)))
    assert "A" in mode or found.getpixel((3, 3)) == BACKGROUND


def test_levels_of_16_bits_are_rescaled() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for dtype in (np.uint16, np.int32):
        found = np.asarray(rgb_from(Image.fromarray(levels.astype(dtype)), BACKGROUND))
        np.testing.assert_array_equal(found[..., 1], np.rint(levels / 257))


def test_levels_outside_16_bits_are_the_darkest_and_the_lightest() -> None:
    image = Image.fromarray(np.array([[-5, 70_000]], np.int32))
    np.testing.assert_array_equal(np.asarray(rgb_from(image, BACKGROUND))[0, :, 0], [0, 255])


def test_the_transparent_level_of_a_16_bit_png_shows_the_background() -> None:
    buffer = io.BytesIO()
    levels = np.array([[0, 1000, 1001]], np.uint16)
    Image.fromarray(levels).save(buffer, "PNG", transparency=1000)
    image = Image.open(buffer)
    image.load()
    np.testing.assert_array_equal(
        np.asarray(rgb_from(image, BACKGROUND))[0], [(0, 0, 0), BACKGROUND, (4, 4, 4)]
    )


PEAK = """
import io, resource, sys
import numpy as np
from PIL import Image
from serve.contract.preprocess import PreprocessSpec, preprocess
kind, side = sys.argv[1], 3000
image = Image.new("RGBA", (side, side)) if kind == "alpha" else Image.fromarray(
    np.zeros((side, side), np.uint16))
buffer = io.BytesIO()
image.save(buffer, "PNG", compress_level=1)
del image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
preprocess(buffer.getvalue(), PreprocessSpec(size_px=32))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / side**2)
"""


@pytest.mark.parametrize("kind", ["alpha", "16 bits"])
def test_no_pixel_takes_more_than_twelve_bytes(kind: str) -> None:
    """Decoded and converted are 8, beside what had to be there to write the file."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK, kind],
        check=True,
        capture_output=True,
        text=True,
    )
    assert float(done.stdout) < 12

"""JPEG files that decode, and were overwritten in the middle."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.contract.errors import ImageError
from serve.contract.preprocess import decode
from train.data.audit.jpeg_damage import looks_overwritten

ENCODINGS = {
    "baseline": {},
    "4:4:4, optimised": {"subsampling": 0, "optimize": True},
    "restart markers a row": {"restart_marker_rows": 1},
    "restart markers every 3 blocks": {"restart_marker_blocks": 3},
}


def photograph(seed: int, mode: str = "RGB") -> Image.Image:
    """Smooth shapes and some noise, as a camera sees them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3), np.uint8)
    image = Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)
    noisy = np.asarray(image) + rng.normal(0, 6, (240, 320, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 88, **options})
    return buffer.getvalue()


def overwritten(data: bytes, size: int, kind: str, seed: int) -> bytes:
    draw = random.Random(seed)
    start = draw.randrange(len(data) // 4, len(data) * 9 // 10 - size)
    other = jpeg(photograph(seed + 1))
    block = {"zeros": bytes(size), "another file": other[len(other) // 3 :][:size]}[kind]
    return data[:start] + block + data[start + size :]


@pytest.mark.parametrize(
    "encoding", [*ENCODINGS, "progressive", "grey", "flat", "one pixel", "CMYK"]
)
def test_sound_files_raise_no_alarm(encoding: str) -> None:
    for seed in range(4):
        options = {**ENCODINGS, "progressive": {"progressive": True}}.get(encoding, {})
        image = photograph(seed, {"grey": "L", "CMYK": "CMYK"}.get(encoding, "RGB"))
        if encoding == "flat":
            image = Image.new("RGB", (300, 200), (seed, 9, 9))
        image = image.resize((1, 1)) if encoding == "one pixel" else image
        data = jpeg(image, **options)
        assert not looks_overwritten(data)
        assert not looks_overwritten(data + b"\0" * 100)  # as cameras pad
        assert not looks_overwritten(jpeg(image, **options, exif=b"Exif\0\0" + bytes(5000)))


@pytest.mark.parametrize("kind", ["zeros", "another file"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_most_blocks_of_a_disk_are_found(encoding: str, kind: str) -> None:
    found = tried = 0
    for seed in range(12):
        data = overwritten(jpeg(photograph(seed), **ENCODINGS[encoding]), 4096, kind, seed)
        try:
            decode(data)
        except ImageError:
            continue  # found by everybody
        tried += 1
        found += looks_overwritten(data)
    assert tried >= 5
    assert found >= 0.7 * tried, (found, tried)


def test_zeros_are_found_in_a_progressive_file() -> None:
    found = 0
    for seed in range(12):
        data = jpeg(photograph(seed), progressive=True)
        found += looks_overwritten(overwritten(data, 4096, "zeros", seed))
    assert found >= 8


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xc0\0\0"])
def test_what_is_no_whole_jpeg_is_not_judged(data: bytes) -> None:
    assert not looks_overwritten(data)


@pytest.mark.skipif("STILLROOM_TEST_PHOTOS" not in os.environ, reason="no photographs here")
def test_no_alarm_on_photographs() -> None:
    files = sorted(Path(os.environ["STILLROOM_TEST_PHOTOS"]).glob("flowers/test/*/*.jpg"))[:300]
    assert [file for file in files if looks_overwritten(file.read_bytes())] == []

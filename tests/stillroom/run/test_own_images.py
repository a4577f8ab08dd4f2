"""One's own images: larger than the service takes, overwritten, or of 16 bits little used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.stillroom.test_cli_errors import assert_refused


def kinds(run) -> dict[str, list[str]]:
    audit = json.loads((run / "data" / "audit.json").read_bytes())
    found: dict[str, list[str]] = {}
    for problem in audit["problems"]:
        found.setdefault(problem["kind"], []).extend(problem["paths"])
    return found


def large(path, size=(7000, 6000)) -> None:
    Image.new("L", size, 90).save(path, "PNG", compress_level=1)


def assert_unreadable(run: Path, why: str) -> None:
    """The audit lists the image, with the reason and the key that takes it."""
    text = (run / "data" / "audit.json").read_text(encoding="utf-8")
    assert why in text
    assert "raise data.max_megapixels" in text


def test_the_pixels_of_ones_own_images_have_a_limit_that_is_a_key(stillroom, few_photos, tmp_path):
    large(few_photos / "red" / "large.png", (1300, 1000))
    outcome = stillroom("audit", few_photos, "--run", tmp_path / "r", "data.max_megapixels=1")
    assert outcome.code == 0
    assert_unreadable(tmp_path / "r", "1300 x 1000 pixels are more than")
    assert stillroom("audit", few_photos, "--run", tmp_path / "s").code == 0


@pytest.mark.ci
def test_more_than_40_megapixels_need_a_key_and_the_service_is_named(
    stillroom, few_photos, tmp_path
):
    large(few_photos / "red" / "large.png")
    run = tmp_path / "r"
    assert stillroom("audit", few_photos, "--run", run).code == 0
    assert_unreadable(run, "7000 x 6000 pixels are more than")
    outcome = stillroom("audit", few_photos, "--run", run, "data.max_megapixels=50")
    assert outcome.code == 0
    assert "1 image is larger than the service takes by default" in outcome.out
    assert "STILLROOM_MAX_MEGAPIXELS" in outcome.out
    assert kinds(run)["too_large_to_serve"] == ["red/large.png"]
    page = (run / "data" / "audit.html").read_text(encoding="utf-8")
    assert "Images that the service refuses by default" in page
    # The limit is part of what the cache remembers.
    again = stillroom("audit", few_photos, "--run", tmp_path / "s")
    assert again.code == 0
    assert_unreadable(tmp_path / "s", "7000 x 6000 pixels are more than")


def test_many_bytes_and_a_long_side_are_no_reason_to_refuse_ones_own_image(
    stillroom, few_photos, tmp_path
):
    Image.new("RGB", (17_000, 20), "red").save(few_photos / "red" / "panorama.png")
    notes = PngInfo()
    notes.add_text("prompt", "a" * 11 * 2**20)
    Image.new("RGB", (40, 30), "blue").save(few_photos / "blue" / "scan.png", pnginfo=notes)
    run = tmp_path / "r"
    assert stillroom("audit", few_photos, "--run", run).code == 0
    assert kinds(run)["too_large_to_serve"] == ["blue/scan.png", "red/panorama.png"]


@pytest.mark.parametrize("value", ["0", "-1", "20000"])
def test_the_key_has_a_range(stillroom, few_photos, tmp_path, value):
    outcome = stillroom(
        "audit", few_photos, f"data.max_megapixels={value}", "--run", tmp_path / "r"
    )
    assert_refused(outcome, "data.max_megapixels = ")


def test_a_run_of_before_the_key_is_not_stale(stillroom, few_photos, tmp_path):
    run = tmp_path / "r"
    stillroom("audit", few_photos, "--run", run)
    manifest = json.loads((run / "data" / "manifest.json").read_bytes())
    assert "max_megapixels" not in manifest["options"]
    assert "building" not in stillroom("audit", few_photos, "--run", run).err
    stillroom("audit", few_photos, "--run", run, "data.max_megapixels=41")
    manifest = json.loads((run / "data" / "manifest.json").read_bytes())
    assert manifest["options"]["max_megapixels"] == 41


def test_16_bits_of_which_few_are_used_are_a_finding(stillroom, few_photos, tmp_path):
    rng = np.random.default_rng(0)
    for name, low, high in (("dark", 0, 4096), ("narrow", 30000, 33000), ("full", 0, 65535)):
        levels = rng.integers(low, high, (60, 80), dtype=np.uint16)
        Image.fromarray(levels).save(few_photos / "red" / f"{name}.png")
    hot = rng.integers(100, 900, (60, 80), dtype=np.uint16)
    hot[5, 5] = 65535  # one hot pixel stretches no range
    Image.fromarray(hot).save(few_photos / "red" / "hot.png")
    Image.fromarray(np.full((60, 80), 7, np.uint16)).save(few_photos / "red" / "one-level.png")
    run = tmp_path / "r"
    outcome = stillroom("audit", few_photos, "--run", run)
    assert "3 16-bit images use less than a tenth of their range" in outcome.out
    assert kinds(run)["few_levels"] == ["red/dark.png", "red/hot.png", "red/narrow.png"]
    assert "red/one-level.png" in kinds(run)["constant"]


def test_an_overwritten_jpeg_is_a_finding_and_no_error(stillroom, few_photos, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, 300, 3), np.uint8)
    path = few_photos / "red" / "bad-disk.jpg"
    Image.fromarray(pixels).save(path, quality=90)
    data = bytearray(path.read_bytes())
    data[9000 : 9000 + 4096] = bytes(4096)
    path.write_bytes(data)
    run = tmp_path / "r"
    outcome = stillroom("audit", few_photos, "--run", run, "--strict")
    assert outcome.code == 0
    assert "1 JPEG file looks overwritten in the middle, though it decodes" in outcome.out
    assert kinds(run)["overwritten"] == ["red/bad-disk.jpg"]
    page = (run / "data" / "audit.html").read_text(encoding="utf-8")
    assert "JPEG files that look overwritten" in page


def test_files_that_are_something_else_are_named_in_the_refusal(stillroom, few_photos, tmp_path):
    files = {
        "lfs.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n",
        "page.png": b"<!DOCTYPE html><html></html>",
        "phone.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50),
    }
    for name, data in files.items():
        (few_photos / "red" / name).write_bytes(data)
    outcome = stillroom("audit", few_photos, "--run", tmp_path / "r")
    text = outcome.out + outcome.err
    for words in ("a Git LFS pointer (git lfs pull", "an HTML page", "a HEIC image"):
        assert words in text
    assert "damaged" not in text

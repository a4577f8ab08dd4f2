"""Different objects of one outline on a plain background are no copies; copies of one still are."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from serve.contract.preprocess import decode

Draw = Callable[[ImageDraw.ImageDraw], None]
GREY, GREEN, BLUE = (128, 128, 128), (70, 130, 80), (60, 80, 160)


def lid(colour: tuple[int, int, int], more: Draw | None = None, paper: int = 205) -> Image.Image:
    """A can's lid as a camera on a stand sees it; the noise is of each shot."""
    image = Image.new("RGB", (240, 200), (paper, paper, paper))
    draw = ImageDraw.Draw(image)
    draw.ellipse((50, 30, 190, 170), fill=tuple(int(c * 0.7) for c in colour))
    draw.ellipse((56, 36, 184, 164), fill=colour)
    if more:
        more(draw)
    seed = np.random.default_rng(abs(hash((colour, paper, more is None))) % 2**32)
    noisy = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7))) + seed.normal(
        0, 3, (200, 240, 3)
    )
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def word(text: str) -> Draw:
    return lambda draw: draw.text((120, 110), text, (80, 80, 80), font_size=30, anchor="mm")


def scratch(draw: ImageDraw.ImageDraw) -> None:
    draw.line((100, 80, 140, 92), fill=(30, 25, 20), width=5)


def stripes(draw: ImageDraw.ImageDraw) -> None:
    for x in range(80, 160, 12):
        draw.line((x, 70, x, 130), fill=(165, 165, 165), width=5)


OTHERS = {
    "another colour": lid(GREEN),
    "lighter": lid((175, 175, 175)),
    "darker": lid((70, 70, 70)),
    "print": lid(GREY, word("5 ml")),
    "a scratch": lid(GREY, scratch),
    "another texture": lid(GREY, stripes),
    "on darker paper": lid(GREY, paper=150),
}


def _saved(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return decode(data.getvalue())


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda im: _saved(im.resize((im.width // 2, im.height // 2)), 80),
    "compressed": lambda im: _saved(im, 30),
    "brighter": lambda im: _saved(ImageEnhance.Brightness(im).enhance(1.15), 80),
    "darker": lambda im: _saved(ImageEnhance.Brightness(im).enhance(0.8), 80),
    "more contrast": lambda im: _saved(ImageEnhance.Contrast(im).enhance(1.12), 80),
    "paler": lambda im: _saved(ImageEnhance.Color(im).enhance(0.88), 80),
    "blurred": lambda im: _saved(im.filter(ImageFilter.GaussianBlur(1.2)), 80),
    "cropped": lambda im: _saved(im.crop((1, 1, im.width - 1, im.height - 1)), 85),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, and enough of both for a split: rings of any size and place."""
    rng = np.random.default_rng(3)
    for number in range(12):
        image = Image.new("RGB", (240, 200), (205, 205, 205))
        x, y, r = rng.integers(60, 160), rng.integers(60, 140), rng.integers(12, 50)
        colour = tuple(int(c) for c in rng.integers(20, 160, 3))
        ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), outline=colour, width=8)
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return tmp_path / "photos"


def _audit(folder: Path) -> str:
    from serve.contract.digest import canonical_json
    from train.data.audit.dataset_audit import audit_images
    from train.options import DataOptions

    out = folder.parent / "out"
    out.mkdir(exist_ok=True)
    audit = audit_images(folder, DataOptions(), seed=0, out=out)
    return canonical_json(audit["problems"]).decode()


@pytest.mark.parametrize("name", OTHERS)
def test_another_object_of_one_outline_is_no_copy(folder: Path, name: str) -> None:
    lid(GREY).save(folder / "a" / "lid.png")
    OTHERS[name].save(folder / "b" / "other.png")
    assert "lid.png" not in _audit(folder)


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("colour", [GREY, BLUE])
def test_a_copy_on_a_plain_background_is_found(
    folder: Path, name: str, colour: tuple[int, int, int]
) -> None:
    image = lid(colour, word("OK"))
    image.save(folder / "a" / "lid.png")
    COPIES[name](image).save(folder / "b" / "copy.png")
    assert "a/lid.png (looks like b/copy.png) is filed under a and b." in _audit(folder)


def test_icons_are_told_apart_by_colour(folder: Path) -> None:
    """Images too small to hold more than a thumbnail: structure says nothing there."""
    small = lid(GREY).resize((48, 40))
    small.save(folder / "a" / "lid.png")
    lid(GREEN).resize((48, 40)).save(folder / "b" / "other.png")
    assert "other.png" not in _audit(folder)
    _saved(small, 70).save(folder / "b" / "copy.png")
    assert "a/lid.png (looks like b/copy.png)" in _audit(folder)

"""Cases planted into images: the audit names each of them, and nothing else."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from serve.contract.preprocess import decode
from train.data.audit.dataset_audit import audit_images
from train.options import DataOptions

pytestmark = pytest.mark.e2e

PHOTOS = Path(os.environ.get("STILLROOM_TEST_PHOTOS", "no-such-folder"))
LABELS = ("ash", "birch", "cedar")
COPIES = {  # scale, JPEG quality, brightness
    "small": (0.4, 30, 1.0),
    "smaller": (0.6, 60, 0.85),
    "brighter": (0.8, 75, 1.15),
    "worse": (1.0, 30, 1.0),
    "better": (1.0, 95, 1.0),
}

Take = Callable[[str, int], Path]


def _scene(seed: int) -> Image.Image:
    rng = np.random.default_rng((4, seed))
    width, height = (240, 180) if seed % 3 else (180, 240)
    levels = rng.integers(20, 200, (7, 8, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number in range(90):
        split = "test" if number % 5 == 0 else "train"
        path = root / split / LABELS[number % 3] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _scene(number).save(path)
    return root


def _copy(source: Path, target: Path, scale: float, quality: int, brightness: float) -> None:
    image = decode(source.read_bytes())
    smaller = image.resize((round(image.width * scale), round(image.height * scale)))
    ImageEnhance.Brightness(smaller).enhance(brightness).save(target, "JPEG", quality=quality)


def _turn(source: Path, target: Path) -> None:
    """Store it on its side, with the EXIF flag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(source.read_bytes()).transpose(Image.Transpose.ROTATE_90)
    image.save(target, quality=92, exif=exif)


def _as_cmyk(source: Path, target: Path) -> None:
    decode(source.read_bytes()).convert("CMYK").save(target, "JPEG", quality=92)


def _as_16_bit(source: Path, target: Path) -> Path:
    """A grey image of 16 bits, and the same of 8 bits beside it."""
    grey = np.asarray(decode(source.read_bytes()).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(target)
    eight = target.with_name(f"eight-{target.name}")
    Image.fromarray(grey).save(eight)
    return eight


def _cut(source: Path, target: Path) -> None:
    data = io.BytesIO()
    decode(source.read_bytes()).save(data, "JPEG")
    target.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])


def _plant(root: Path, labels: tuple[str, ...], take: Take) -> dict[str, set[frozenset[str]]]:
    """Plant every case; sources are images that no other case uses.

    Returns:
        The groups of paths that each kind of problem must have.
    """
    here, other = labels[0], labels[1]
    expected: dict[str, set[frozenset[str]]] = {
        kind: set() for kind in ("conflict", "leak", "duplicate", "near_duplicate")
    }

    def plant(kind: str, source: Path, folder: str, name: str, make: Any) -> None:
        target = root / folder / f"planted-{name}"
        make(source, target)
        paths = (source.relative_to(root).as_posix(), target.relative_to(root).as_posix())
        expected[kind].add(frozenset(paths))

    def copied(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes())

    mine = f"train/{here}"
    plant("duplicate", take(mine, 0), mine, f"same{take(mine, 0).suffix}", copied)
    for number, (name, (scale, quality, brightness)) in enumerate(COPIES.items(), 1):
        plant(
            "near_duplicate",
            take(mine, number),
            mine,
            f"{name}.jpg",
            lambda a, b, v=(scale, quality, brightness): _copy(a, b, *v),
        )
    plant("near_duplicate", take(mine, 6), mine, "turned.jpg", _turn)
    plant("near_duplicate", take(mine, 7), mine, "cmyk.jpg", _as_cmyk)
    plant("conflict", take(mine, 8), f"train/{other}", "label.jpg", copied)
    plant(
        "conflict",
        take(mine, 9),
        f"train/{other}",
        "label-small.jpg",
        lambda a, b: _copy(a, b, 0.5, 50, 1.1),
    )
    plant("leak", take(mine, 10), f"test/{here}", "leak.jpg", copied)
    plant("leak", take(mine, 11), f"test/{here}", "leak-turned.jpg", _turn)
    deep = root / mine / "planted-deep.png"
    eight = _as_16_bit(take(mine, 12), deep)
    expected["duplicate" if deep.read_bytes() == eight.read_bytes() else "near_duplicate"].add(
        frozenset(path.relative_to(root).as_posix() for path in (deep, eight))
    )
    _cut(take(mine, 13), root / mine / "planted-cut.jpg")
    (root / mine / "planted-empty.jpg").write_bytes(b"")
    Image.new("RGB", (200, 150), (9, 9, 9)).save(root / mine / "planted-black.jpg")
    return expected


def _audit(root: Path, out: Path) -> dict[str, Any]:
    out.mkdir()
    return audit_images(root, DataOptions(unreadable="skip"), seed=0, out=out)


def _groups(audit: dict[str, Any], kind: str) -> set[frozenset[str]]:
    return {frozenset(one["paths"]) for one in audit["problems"] if one["kind"] == kind}


def _check(root: Path, out: Path, labels: tuple[str, ...], take: Take) -> None:
    before = _audit(root, out / "before")
    expected = _plant(root, labels, take)
    audit = _audit(root, out / "after")
    for kind, groups in expected.items():
        assert _groups(audit, kind) - _groups(before, kind) == groups, kind
        assert _groups(before, kind) <= _groups(audit, kind), kind
    mine = f"train/{labels[0]}"
    assert [one["path"] for one in audit["unreadable"]] == [
        f"{mine}/planted-cut.jpg",
        f"{mine}/planted-empty.jpg",
    ]
    assert audit["constant"] == [f"{mine}/planted-black.jpg"]


def test_planted_cases_are_found_among_drawings(drawn: Path, tmp_path: Path) -> None:
    sources = sorted((drawn / "train" / LABELS[0]).iterdir())
    _check(drawn, tmp_path, LABELS, lambda _, number: sources[number])


def test_drawings_alone_have_no_problem(drawn: Path, tmp_path: Path) -> None:
    assert _audit(drawn, tmp_path / "out")["problems"] == []


@pytest.mark.skipif(
    not (PHOTOS / "flowers").is_dir(),
    reason="STILLROOM_TEST_PHOTOS does not name a folder with flowers/ (README: test images)",
)
def test_planted_cases_are_found_among_flowers(tmp_path: Path) -> None:
    """Sources are every 30th rose; what the 3 667 flowers hold by themselves stays as it was."""
    root = tmp_path / "flowers"
    for path in sorted((PHOTOS / "flowers").rglob("*.jpg")):
        link = root / path.relative_to(PHOTOS / "flowers")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    sources = sorted((root / "train" / "roses").iterdir())[::30]
    _check(root, tmp_path, ("roses", "tulips"), lambda _, number: sources[number])
    twins = _groups(_audit(root, tmp_path / "again"), "leak")
    assert len([group for group in twins if not any("planted" in path for path in group)]) == 5

"""Near-duplicates of the audit: which copies it finds, and which different images it joins.

    python -m benchmarks.near_duplicates --seed 1 --photos flowers --labels roses,sunflowers,tulips

Two sets. *Objects*: lids, coins, screws, bottles on plain backgrounds, drawn from the seed. Those
of one outline lie in the same place and differ in colour, lightness, texture, print or a defect, or
are the same object photographed again (moved, lit otherwise). *Images*: those of a folder with
one folder a class. Beside every third image lies one copy: resized, compressed again, brighter and
so on. Judged is what the audit says: two images that it puts into one group are one claim.
Thresholds were chosen on objects of seed 0 and on daisy and dandelion; other seeds and classes are
for reports. The table goes to standard output, and with --table to the end of a file, too.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from train.data.audit.dataset_audit import audit_images
from train.options import DataOptions

SIDE = (240, 200)  # px, of a drawing
KINDS = ("lid", "coin", "screw", "bottle")
PAPERS = ((205, 205, 205), (236, 230, 218), (60, 62, 66), (250, 250, 250), (120, 140, 165))
COLOURS = ((128, 128, 128), (70, 130, 80), (170, 60, 50), (60, 80, 160), (190, 150, 60))
LIGHTNESS = (70, 105, 150, 185)  # of grey objects
EVERY = 3  # images to one copy

Edit = Callable[[Image.Image], Image.Image]


def _hue(image: Image.Image) -> Image.Image:
    """Warmer by a few percent, and paler."""
    levels = np.asarray(image, np.float32) * np.float32([1.03, 1.0, 0.97])
    warmer = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    return ImageEnhance.Color(warmer).enhance(0.88)


def _cropped(share: float) -> Edit:
    def crop(image: Image.Image) -> Image.Image:
        x, y = image.width * share, image.height * share
        return image.crop((round(x), round(y / 2), round(image.width - x / 2), image.height))

    return crop


def _marked(image: Image.Image) -> Image.Image:
    """A word in a corner, half transparent."""
    over = image.copy()
    size = max(10, image.height // 12)
    ImageDraw.Draw(over).text(
        (image.width * 0.62, image.height * 0.86), "sample", "white", font_size=size
    )
    return Image.blend(image, over, 0.6)


EDITS: dict[str, tuple[Edit, int]] = {  # what is done, and the JPEG quality it is saved with
    "half the size": (lambda im: im.resize((im.width // 2, im.height // 2)), 85),
    "a third of the size": (lambda im: im.resize((im.width // 3, im.height // 3)), 75),
    "quality 30": (lambda im: im, 30),
    "quality 60": (lambda im: im, 60),
    "quality 90": (lambda im: im, 90),
    "brighter by 15 %": (lambda im: ImageEnhance.Brightness(im).enhance(1.15), 80),
    "darker by 20 %": (lambda im: ImageEnhance.Brightness(im).enhance(0.8), 80),
    "more contrast, 15 %": (lambda im: ImageEnhance.Contrast(im).enhance(1.15), 80),
    "warmer and paler": (_hue, 80),
    "blurred": (lambda im: im.filter(ImageFilter.GaussianBlur(im.height / 150)), 80),
    "cropped by 1.5 %": (_cropped(0.01), 85),
    "cropped by 4.5 %": (_cropped(0.03), 85),
    "with a border": (lambda im: ImageOps.expand(im, im.height // 60, "black"), 85),
    "with a watermark": (_marked, 85),
    "mirrored (not promised)": (ImageOps.mirror, 90),
}


@dataclass(frozen=True)
class Look:
    """One object: what it shares with others of its outline is not in here."""

    differs_by: str
    colour: tuple[int, int, int]
    texture: int = 0  # seed of a texture; 0: none
    word: str = ""
    defect: int = 0  # seed of a scratch or dent; 0: none
    shift: tuple[int, int] = (0, 0)
    light: float = 0.0  # the right side is brighter by this share than the left one


def looks(rng: np.random.Generator) -> Iterator[Look]:
    """Objects of one outline, none the same image as another."""
    grey = (150, 150, 150)
    for colour in COLOURS:
        yield Look("colour", colour)
    for level in LIGHTNESS:
        yield Look("lightness", (level, level, level))
    for number in range(4):
        yield Look("texture", grey, texture=int(rng.integers(1, 10**6)))
        yield Look("print", grey, word=("12", "OK", "5 ml", "EXP 30")[number])
        yield Look("defect", grey, defect=int(rng.integers(1, 10**6)))
        shift = tuple(int(x) for x in rng.integers(3, 8, 2) * rng.choice([-1, 1], 2))
        yield Look("taken again", grey, shift=shift, light=float(rng.uniform(-0.15, 0.15)))  # type: ignore[arg-type]


def draw_object(kind: str, paper: tuple[int, int, int], look: Look, noise: int) -> Image.Image:
    """An object on a plain background, as a camera on a stand sees it."""
    image = Image.new("RGB", SIDE, paper)
    draw = ImageDraw.Draw(image)
    x, y = 120 + look.shift[0], 100 + look.shift[1]
    dark = tuple(int(c * 0.7) for c in look.colour)
    if kind in ("lid", "coin"):
        radius = 70 if kind == "lid" else 58
        for r, fill in ((radius, dark), (radius - 6, look.colour)):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        inner = radius * (0.72 if kind == "lid" else 0.86)
        draw.ellipse((x - inner, y - inner, x + inner, y + inner), outline=dark, width=2)
        if kind == "coin":
            draw.polygon([(x, y - 34), (x + 28, y + 24), (x - 28, y + 24)], outline=dark, width=3)
    elif kind == "screw":
        draw.rectangle((x - 12, y - 40, x + 12, y + 80), fill=look.colour)
        for step in range(-36, 80, 8):
            draw.line((x - 12, y + step, x + 12, y + step + 4), fill=dark, width=2)
        draw.ellipse((x - 34, y - 78, x + 34, y - 32), fill=look.colour, outline=dark, width=3)
        draw.line((x - 20, y - 55, x + 20, y - 55), fill=dark, width=5)
    else:
        draw.rectangle((x - 12, y - 88, x + 12, y - 50), fill=dark)
        draw.rounded_rectangle((x - 38, y - 55, x + 38, y + 88), 18, fill=look.colour)
        draw.rectangle((x - 38, y - 10, x + 38, y + 50), fill=tuple(min(255, c + 30) for c in dark))
    mask = np.any(np.asarray(image) != np.asarray(paper), axis=-1)
    if look.word:
        draw.text((x, y + 18), look.word, dark, font_size=30, anchor="mm", stroke_width=1)
    if look.defect:
        rng = np.random.default_rng(look.defect)
        a, b = (float(v) for v in rng.uniform(-26, 26, 2))
        length = float(rng.uniform(14, 26))
        draw.line((x + a, y + b, x + a + length, y + b + 9), fill=(30, 25, 20), width=4)
    levels = np.asarray(image, np.float32)
    if look.texture:
        coarse = np.random.default_rng(look.texture).normal(0, 22, (20, 24)).astype(np.float32)
        grain = Image.fromarray(coarse).resize(SIDE, Image.Resampling.BICUBIC)
        levels = levels + np.asarray(grain)[..., None] * mask[..., None]
    light = 1 + look.light * np.linspace(-0.5, 0.5, SIDE[0], dtype=np.float32)
    shot = np.random.default_rng(noise).normal(0, 3, levels.shape)
    return Image.fromarray(np.clip(levels * light[:, None] + shot, 0, 255).astype(np.uint8))


def draw_objects(folder: Path, seed: int) -> dict[str, str]:
    """Write the objects, a class a kind; what each differs by, by path."""
    rng = np.random.default_rng((seed, 71))
    written = {}
    for kind in KINDS:
        for paper in rng.permutation(PAPERS)[:3].tolist():
            for number, look in enumerate(looks(rng)):
                path = folder / kind / f"{paper[0]:03d}-{number:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = draw_object(kind, tuple(paper), look, int(rng.integers(10**6)))
                image.filter(ImageFilter.GaussianBlur(0.7)).save(path)
                written[path.relative_to(folder).as_posix()] = look.differs_by
    return written


def copy_photos(source: Path, labels: list[str], folder: Path) -> list[str]:
    """Link the images of some classes; their paths in the folder."""
    written = []
    for path in sorted(source.rglob("*.jpg")):
        if path.parent.name in labels:
            link = folder / path.parent.name / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
            written.append(link.relative_to(folder).as_posix())
    return written


def plant(folder: Path, originals: list[str]) -> dict[str, tuple[str, str]]:
    """One copy beside every third image: of which image, and which edit, by the copy's path."""
    planted = {}
    names = list(EDITS)
    for number, path in enumerate(originals[::EVERY]):
        edit, quality = EDITS[names[number % len(names)]]
        data = io.BytesIO()
        with Image.open(folder / path) as image:
            edit(image.convert("RGB")).save(data, "JPEG", quality=quality)
        copy = (folder / path).with_name(f"copy-{Path(path).stem}.jpg")
        copy.write_bytes(data.getvalue())
        planted[copy.relative_to(folder).as_posix()] = (path, names[number % len(names)])
    return planted


@dataclass(frozen=True)
class Result:
    """What an audit said of one set.

    Args:
        images: of the set, copies among them.
        true: claims that are right: images of one image.
        false: those that are wrong, by what the two images differ in.
        found: of each kind of copy, how many were found, and of how many.
    """

    images: int
    true: int
    false: Counter[str]
    found: dict[str, tuple[int, int]]


def judge(folder: Path, differs_by: dict[str, str], planted: dict[str, tuple[str, str]]) -> Result:
    """Audit a folder and compare its groups with what was planted."""
    with tempfile.TemporaryDirectory() as out:
        audit = audit_images(folder, DataOptions(), seed=0, out=Path(out))
    root = {**{path: path for path in differs_by}, **{c: of for c, (of, _) in planted.items()}}
    group_of: dict[str, int] = {}
    true, false = 0, Counter[str]()
    grouped = ("near_duplicate", "conflict", "leak", "duplicate")
    groups = {tuple(p["paths"]) for p in audit["problems"] if p["kind"] in grouped}
    for number, group in enumerate(sorted(groups)):
        group_of |= dict.fromkeys(group, number)
        for one, other in combinations(group, 2):
            if root[one] == root[other]:
                true += 1
            else:
                false[" / ".join(sorted({differs_by[root[one]], differs_by[root[other]]}))] += 1
    found = dict.fromkeys(EDITS, (0, 0))
    for copy, (path, name) in planted.items():
        hits, count = found[name]
        is_found = copy in group_of and group_of[copy] == group_of.get(path)
        found[name] = (hits + is_found, count + 1)
    return Result(len(root), true, false, found)


def rows_of(title: str, result: Result) -> list[str]:
    """The table's rows: the set first, then each kind of copy."""
    wrong = result.false.total()
    precision = f"{result.true / max(result.true + wrong, 1):.3f}"
    promised = [counts for name, counts in result.found.items() if "not promised" not in name]
    hits, count = (sum(numbers) for numbers in zip(*promised, strict=True))
    worst = "; ".join(f"{name} {n}" for name, n in result.false.most_common(4)) or "none"
    return [
        f"| {title} | {result.images} | {result.true} | {wrong} | {precision} | {hits / count:.3f} "
        f"({hits} of {count}) | {worst} |",
        "| | | | | | "
        + ", ".join(f"{name} {hits}/{count}" for name, (hits, count) in result.found.items())
        + " | |",
    ]


def main() -> None:
    """Draw, plant, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1, help="of the drawn objects")
    parser.add_argument("--photos", type=Path, help="folder with one folder a class below it")
    parser.add_argument("--labels", default="", help="classes of it, between commas")
    parser.add_argument("--note", default="", help="goes before the name of each set")
    parser.add_argument("--table", type=Path, help="Markdown file that gets the rows, too")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["STILLROOM_CACHE"] = f"{scratch}/cache"
        folder = Path(scratch) / "objects"
        drawn = draw_objects(folder, given.seed)
        result = judge(folder, drawn, plant(folder, sorted(drawn)))
        rows += rows_of(f"{given.note}objects, seed {given.seed}", result)
        if given.photos:
            folder = Path(scratch) / "photos"
            linked = copy_photos(given.photos, given.labels.split(","), folder)
            names = dict.fromkeys(linked, "images")
            result = judge(folder, names, plant(folder, linked))
            rows += rows_of(f"{given.note}{given.labels}", result)
    print("\n".join(rows))
    if given.table:
        with given.table.open("a", encoding="utf-8") as file:
            file.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()

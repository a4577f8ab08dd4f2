"""A fine-grained dataset: words set in many typefaces; the class is the typeface.

    python -m benchmarks.typefaces TYPEFACES --faces 40 --train 50 --test 15

Flower classes differ in colour and shape; typefaces differ in serifs and stroke contrast only, so
they can tell a head for fine detail from a linear one. The fonts are those that are installed (on
Debian for example fonts-dejavu fonts-liberation fonts-lato fonts-roboto fonts-texgyre
fonts-urw-base35 fonts-ebgaramond fonts-junicode fonts-linuxlibertine fonts-cabin); none is part of
this project. Words, size, position, slant, colours, blur and noise are random; test images show
words that no training image shows.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont, TTLibError
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from train.engine.seed import generator

SIZE_PX = 128
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
UPRIGHT = {"regular", "book", "roman", "normal"}
NO_TEXT = ("Symbol", "Keyboard", "Math")  # they map letters to something else
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro sa te vo wy xa zu str ght mn rk Ba Qu Re Gi"


def find_faces(folders: list[Path]) -> dict[str, Path]:
    """Upright text faces with all Latin letters: one file a family, by family name."""
    faces: dict[str, Path] = {}
    paths = (path for folder in folders for path in sorted(folder.rglob("*")))
    for path in paths:
        if path.suffix.lower() not in (".ttf", ".otf"):
            continue
        try:
            with path.open("rb") as file, TTFont(file, lazy=True) as font:
                names = font["name"]
                # 16 is the typographic family, of which "Lato Light" and "Lato Black" are members
                family = names.getDebugName(16) or names.getDebugName(1)
                style = names.getDebugName(17) or names.getDebugName(2)
                letters = font.getBestCmap() or {}
        except (TTLibError, OSError):
            continue
        if any(word in str(family) for word in NO_TEXT):
            continue
        if style and style.lower() in UPRIGHT and all(ord(c) in letters for c in LETTERS):
            faces.setdefault(str(family), path)
    return faces


def draw_word(path: Path, rng: np.random.Generator, syllables: list[str]) -> Image.Image:
    """One picture of a random word, SIZE_PX wide and high."""
    word = "".join(rng.choice(syllables, int(rng.integers(2, 5))))
    font = ImageFont.truetype(str(path), int(rng.integers(34, 56)))
    paper = rng.integers(150, 256, 3)
    ink = (paper * rng.uniform(0, 0.5)).astype(int)
    side = 2 * SIZE_PX
    image = Image.new("RGB", (side, side), tuple(map(int, paper)))
    ImageDraw.Draw(image).text((side / 2, side / 2), word, tuple(map(int, ink)), font, anchor="mm")
    image = image.rotate(
        rng.normal(0, 6), Image.Resampling.BICUBIC, fillcolor=tuple(map(int, paper))
    )
    dx, dy = rng.integers(-14, 15, 2)
    left, top = SIZE_PX // 2 + int(dx), SIZE_PX // 2 + int(dy)
    image = image.crop((left, top, left + SIZE_PX, top + SIZE_PX))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    noise = rng.normal(0, rng.uniform(0, 10), (SIZE_PX, SIZE_PX, 3))
    pixels = np.asarray(image, dtype=np.float64) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_dataset(out: Path, faces: dict[str, Path], counts: dict[str, int], seed: int) -> None:
    """Write out/<split>/<face>/<number>.jpg."""
    syllables = SYLLABLES.split()
    shuffled = list(generator(seed, "syllables").permutation(syllables))
    cut = math.ceil(0.6 * len(shuffled))
    words = {"train": shuffled[:cut], "test": shuffled[cut:]}
    for family, path in faces.items():
        for split, count in counts.items():
            folder = out / split / family.replace("/", "-")
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                rng = generator(seed, split, family, number)
                image = draw_word(path, rng, words[split])
                image.save(folder / f"{number:04d}.jpg", quality=90)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--fonts", type=Path, nargs="+", default=[Path("/usr/share/fonts")])
    parser.add_argument("--faces", type=int, default=40)
    parser.add_argument("--train", type=int, default=50, help="images a face")
    parser.add_argument("--test", type=int, default=15, help="images a face")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = find_faces(args.fonts)
    if len(found) < 2:
        parser.error(f"{len(found)} text faces in {args.fonts}; install fonts or name --fonts.")
    names = sorted(found)
    order = generator(args.seed, "faces").permutation(len(names))[: args.faces]
    chosen = {names[i]: found[names[i]] for i in sorted(order)}
    write_dataset(args.out, chosen, {"train": args.train, "test": args.test}, args.seed)
    print(f"{len(chosen)} of {len(found)} faces: {', '.join(chosen)}")


if __name__ == "__main__":
    main()

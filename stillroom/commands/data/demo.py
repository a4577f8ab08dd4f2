"""`stillroom demo`: scikit-learn's handwritten digits, and the whole pipeline on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from stillroom.commands.arguments import Overrides
from stillroom.commands.building import build_and_show

__all__ = ["demo", "write_digits"]

SCALE = 4  # 8 x 8 pixels become 32 x 32


def demo(
    run: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    overrides: Overrides = None,
) -> None:
    """The whole pipeline on 1 797 handwritten digits, in minutes.

    Example: stillroom demo
    """
    photos = run.parent / f"{run.name}-photos"
    photos.parent.mkdir(parents=True, exist_ok=True)
    write_digits(photos)
    build_and_show(str(photos), run, "digits", overrides, "report", None)


def write_digits(folder: Path) -> None:
    """Write 1 797 JPEGs of handwritten digits, one folder per class; whole or not at all.

    Source: UCI Optical Recognition of Handwritten Digits, as `sklearn.datasets.load_digits`.
    """
    if folder.exists():
        return
    from sklearn.datasets import load_digits

    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    digits = load_digits()
    for number, (image, target) in enumerate(zip(digits.images, digits.target, strict=True)):
        grey = Image.fromarray(np.uint8(image / 16 * 255), "L")
        grey = grey.resize((8 * SCALE, 8 * SCALE), Image.Resampling.BICUBIC)
        path = partial / str(target) / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey.convert("RGB").save(path, quality=95)
    partial.rename(folder)

"""The demo's photographs: scikit-learn's handwritten digits, written out as an image folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

__all__ = ["write_digits"]

SCALE = 4  # 8 x 8 pixels become 32 x 32


def write_digits(folder: Path) -> None:
    """Write 1 797 JPEGs of handwritten digits, one folder per class; whole or not at all.

    Source: UCI Optical Recognition of Handwritten Digits, as `sklearn.datasets.load_digits`.
    """
    if folder.exists():
        return
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

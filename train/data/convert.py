"""Copies of images in formats that are not read, as PNG: no bit of a grey or colour level is lost.

The service reads JPEG, PNG and WebP, and training reads what the service reads. So other formats
are converted once, beside their originals, and not each time they are read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from train.data.folders.scan import scan_folder

__all__ = ["Conversion", "convert_folder"]

MIN_IS_WHITE = 0  # PhotometricInterpretation of a TIFF whose 0 is white
PHOTOMETRIC, SUBFILE = 262, 254  # TIFF tags
GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Conversion:
    """What became of one image.

    Args:
        path: of the original, relative to the folder.
        problem: why it has no copy; empty where it has one.
    """

    path: str
    problem: str = ""


def convert_folder(root: Path) -> list[Conversion]:
    """Write a PNG beside every image of a format that is not read, `x.tif.png` beside `x.tif`.

    Originals stay, and images that have a copy are left alone. 8-bit levels stay as they are,
    16-bit grey stays 16-bit.

    Returns:
        One entry an image without a copy, in order of path.
    """
    found = [n for n in scan_folder(root).notices if n.reason == "format"]
    return [Conversion(one.path, _convert(root / one.path, one.what)) for one in found]


def _convert(source: Path, kind: str) -> str:
    """Write the copy of one image; return why not."""
    partial = source.with_name(f".{source.name}.{os.getpid()}.partial")
    try:
        with Image.open(source) as image:
            converted = _upright(image)
        converted.save(partial, "PNG")
        partial.replace(source.with_name(f"{source.name}.png"))
    except _NotOneImage as error:
        return str(error)
    except UnidentifiedImageError:
        return f"Pillow cannot open it ({kind}): save it as JPEG or PNG by another program"
    except Exception as error:  # noqa: BLE001  # decoders raise a dozen unrelated types
        return f"{type(error).__name__}: {error}"
    finally:
        partial.unlink(missing_ok=True)
    return ""


class _NotOneImage(ValueError):
    """Which image is meant, or which levels, is not ours to guess."""


def _upright(image: Image.Image) -> Image.Image:
    if (frames := _frames(image)) > 1:
        raise _NotOneImage(f"it holds {frames} images: save the one that is meant as PNG")
    inverted = _tag(image, PHOTOMETRIC) == MIN_IS_WHITE and image.mode in GREY_16
    upright = ImageOps.exif_transpose(image)
    if upright.mode in (*GREY_16, "I"):
        levels = np.asarray(upright)
        if levels.min() < 0 or levels.max() > 65535:
            raise _NotOneImage(
                f"its levels are {levels.min()} to {levels.max()}: scale them to 0 to 65535"
            )
        grey = levels.astype(np.uint16)
        return Image.fromarray(65535 - grey if inverted else grey)
    if upright.mode == "F":
        raise _NotOneImage("its levels are floating-point numbers: scale them to 0 to 65535")
    if upright.mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        return upright
    return upright.convert("RGB")


def _frames(image: Image.Image) -> int:
    """Images in a file, without the small versions (subfile type 1) that some add to a TIFF."""
    count = 1
    for number in range(1, getattr(image, "n_frames", 1)):
        image.seek(number)
        count += _tag(image, SUBFILE) != 1
    image.seek(0)
    return count


def _tag(image: Image.Image, tag: int) -> object:
    tags = getattr(image, "tag_v2", None)
    return tags.get(tag) if tags is not None else None

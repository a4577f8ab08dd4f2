"""What a person should look at in a file that decodes: kinds of problems, in words elsewhere."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from serve.contract.image.decode_cost import without_text
from train.data.audit.jpeg_damage import looks_overwritten
from train.data.own_images import is_refused_by_service

__all__ = ["remarks_of"]

LEVELS = 65536 // 10  # of a 16-bit image: with a smaller range, 8 bits keep 25 levels of it
SIXTEEN_BITS = b"\x10\0"  # depth and grey, in the header of a PNG


def remarks_of(data: bytes) -> str:
    """Kinds of remarks on an image file that decodes, with blanks between them."""
    found = {
        "overwritten": looks_overwritten(data),
        "few_levels": _uses_few_levels(data),
        "too_large_to_serve": is_refused_by_service(data),
    }
    return " ".join(kind for kind, is_so in found.items() if is_so)


def _uses_few_levels(data: bytes) -> bool:
    """Of 16-bit grey whether the pixels, apart from some extreme ones, lie close together."""
    if not (data.startswith(b"\x89PNG") and data[24:26] == SIXTEEN_BITS):
        return False
    levels = np.asarray(Image.open(io.BytesIO(without_text(data)), formats=["PNG"]))
    low, high = np.percentile(levels, [0.1, 99.9])
    return bool(0 < high - low < LEVELS)

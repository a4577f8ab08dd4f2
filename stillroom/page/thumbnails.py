"""Thumbnails inside the page: what the model sees of an image, small, as a data: URI."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError, ImageError
from serve.contract.preprocess import NO_LIMITS, PreprocessSpec, crop_and_resize, decode
from train.data.image_bytes import read_bytes
from train.data.images import LabelledImage

__all__ = ["Thumbnails", "spread"]

QUALITY = 72


class Thumbnails:
    """Makes thumbnails and remembers how many images it could not show.

    Args:
        root: the dataset's folder.
        spec: of the served model: a thumbnail shows the part of the image that it sees.
        side_px: of a thumbnail.
    """

    def __init__(self, root: Path, spec: PreprocessSpec, side_px: int) -> None:
        self._root, self._spec = root, replace(spec, size_px=side_px)
        self._made: dict[str, str | None] = {}

    @property
    def wanted(self) -> int:
        """Images asked for."""
        return len(self._made)

    @property
    def missing(self) -> int:
        """Those of them that are gone, changed or unreadable."""
        return sum(uri is None for uri in self._made.values())

    def of(self, photo: LabelledImage) -> str | None:
        """The data: URI; None where the image is not the one that was measured any more."""
        if photo.path not in self._made:
            self._made[photo.path] = self._make(photo)
        return self._made[photo.path]

    def _make(self, photo: LabelledImage) -> str | None:
        try:
            data = read_bytes(self._root / photo.path)
            if sha256_of_bytes(data) != photo.sha256:
                return None
            image = crop_and_resize(decode(data, self._spec.background, NO_LIMITS), self._spec)
        except (OSError, DatasetError, ImageError):
            return None
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=QUALITY, method=4)
        return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def spread(photos: list[LabelledImage], count: int) -> list[LabelledImage]:
    """So many of the images, evenly spaced over the list."""
    if len(photos) <= count:
        return photos
    return [photos[i * len(photos) // count] for i in range(count)]

"""Images that two models are compared on: read once, preprocessed as the server does.

No torch here: parity runs at the serving machine, too.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError, ImageError
from serve.contract.preprocess import NO_LIMITS, PreprocessSpec, preprocess
from train.data.folder import list_unlabelled, say_notices
from train.data.images import LabelledImage
from train.data.list_rows import read_rows
from train.engine.progress import say
from train.engine.seed import derive_seed

__all__ = ["ImageSet", "read_image_set"]

MAX_IMAGES = 1000
SHOWN = 3
READ_PER_TAKEN = 4  # of a folder of millions not every file is read to take a thousand


@dataclass(frozen=True)
class ImageSet:
    """Distinct images, ready for a model.

    Args:
        root: the folder that the paths are relative to.
        photos: N images with path and sha256; `label` is empty unless all of them have one.
        pixels: (N, size_px, size_px, 3) uint8.
        targets: (N,) class numbers; None where an image has no label among the model's.
        left_out: paths that do not decode.
    """

    root: Path
    photos: tuple[LabelledImage, ...]
    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64] | None
    left_out: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """N paths."""
        return tuple(photo.path for photo in self.photos)

    @property
    def sha256(self) -> tuple[str, ...]:
        """N digests of the files' bytes."""
        return tuple(photo.sha256 for photo in self.photos)


def read_image_set(
    source: Path,
    spec: PreprocessSpec,
    labels: tuple[str, ...],
    *,
    among: Collection[str] | None = None,
    limit: int = MAX_IMAGES,
) -> ImageSet:
    """Read images, each content once, in an order that depends on their content alone.

    Of a folder with more than four times `limit` files, a share is chosen by their paths first.

    Args:
        source: a folder, searched in depth, or a list of images.
        spec: bytes -> pixels.
        labels: K class names of the model. A folder of one of these names labels what is in it.
        among: digests to take; None takes any.
        limit: largest number taken.

    Returns:
        N >= 0 of them: none where none is `among` those wanted.

    Raises:
        DatasetError: no such folder or list, no image in it, or none that decodes.
    """
    root, found = _find(source, labels)
    if among is None and len(found) > READ_PER_TAKEN * limit:
        by_path = sorted(found, key=lambda photo: derive_seed("probe", photo.path))
        found = by_path[: READ_PER_TAKEN * limit]
    chosen = _distinct(root, found, among)[:limit]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pixels = list(pool.map(lambda photo: _pixels(root / photo.path, spec), chosen))
    read = [
        (photo, image) for photo, image in zip(chosen, pixels, strict=True) if image is not None
    ]
    if chosen and not read:
        raise DatasetError(
            f"None of the {len(chosen)} images in {source} decodes, first {chosen[0].path}.",
            "Name a folder of JPEG, PNG or WebP images.",
        )
    photos, targets = _labelled([photo for photo, _ in read], labels)
    empty = np.zeros((0, spec.size_px, spec.size_px, 3), np.uint8)
    return ImageSet(
        root=root,
        photos=photos,
        pixels=np.stack([image for _, image in read]) if read else empty,
        targets=targets,
        left_out=tuple(p.path for p, image in zip(chosen, pixels, strict=True) if image is None),
    )


def _find(source: Path, labels: tuple[str, ...]) -> tuple[Path, list[LabelledImage]]:
    """Images with the label that a folder around them or the list gives them."""
    if source.is_file():
        rows = read_rows(source)
        return source.resolve().parent, [LabelledImage(row.path, row.label) for row in rows]
    listing = list_unlabelled(source)
    say_notices(str(source), listing.notices)
    return source, [LabelledImage(p.path, _label_of(p.path, labels)) for p in listing.photos]


def _label_of(path: str, labels: tuple[str, ...]) -> str:
    """The nearest folder around an image that is called like a class, else the nearest."""
    folders = Path(path).parts[-2::-1]
    return next((name for name in folders if name in labels), folders[0] if folders else "")


def _distinct(
    root: Path, found: list[LabelledImage], among: Collection[str] | None
) -> list[LabelledImage]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda photo: sha256_of_bytes((root / photo.path).read_bytes()), found)
        by_digest = {
            digest: LabelledImage(photo.path, photo.label, sha256=digest)
            for photo, digest in zip(found, digests, strict=True)
            if among is None or digest in among
        }
    return [
        by_digest[digest] for digest in sorted(by_digest, key=lambda d: derive_seed("probe", d))
    ]


def _pixels(path: Path, spec: PreprocessSpec) -> NDArray[np.uint8] | None:
    try:
        return preprocess(path.read_bytes(), spec, NO_LIMITS)
    except ImageError:
        return None


def _labelled(
    photos: list[LabelledImage], labels: tuple[str, ...]
) -> tuple[tuple[LabelledImage, ...], NDArray[np.int64] | None]:
    numbers = {label: number for number, label in enumerate(labels)}
    if photos and all(photo.label in numbers for photo in photos):
        targets = np.array([numbers[photo.label] for photo in photos], np.int64)
        return tuple(photos), targets
    _say_unknown(photos, labels)
    return tuple(LabelledImage(photo.path, "", sha256=photo.sha256) for photo in photos), None


def _say_unknown(photos: list[LabelledImage], labels: tuple[str, ...]) -> None:
    """That accuracy is not compared, where images seem to have labels, and why."""
    unknown = sorted({photo.label for photo in photos} - {*labels, ""})
    if labels and unknown:
        say(
            f"  warning: accuracy is not compared: {len(unknown)} of the folders' or list's labels "
            f"are none of the model's: {_some(unknown)}. The model's: {_some(labels)}"
        )


def _some(labels: Sequence[str]) -> str:
    more = ", ..." if len(labels) > SHOWN else ""
    return f"{', '.join(map(repr, labels[:SHOWN]))}{more}"

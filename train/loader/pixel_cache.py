"""Images decoded once, at a working size, into one memory-mapped file.

All processes that train on the same images at the same size read the same pages, which the
system drops where it needs the memory: host memory stays flat however many epochs there are.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from serve.contract.digest import digest_of_json, sha256_of_bytes
from serve.contract.errors import DatasetError
from serve.contract.files import fsync_path
from serve.contract.preprocess import NO_LIMITS, decode
from train.data.cache_folder import cache_folder
from train.data.image_bytes import read_bytes
from train.data.images import LabelledImage
from train.engine.progress import say, track

__all__ = ["MappedPixels", "open_pixels", "read_image", "working_size"]

READER = f"1 Pillow {PIL.__version__}"  # of the pixels; another one decodes again
PIXELS = "pixels.bin"
FOLDER = "pixels"
SPARE_BYTES = 2**30  # that the cache leaves free on the disk
LARGE_BYTES = 2**26  # below it nobody needs a progress bar


class MappedPixels:
    """Decoded images by position, read from one file that is mapped into memory.

    Args:
        path: of the file: the images' RGB bytes, one after the other.
        sizes: (width, height) of each, in pixels.
    """

    def __init__(self, path: Path, sizes: list[tuple[int, int]]) -> None:
        self._path, self._sizes = path, sizes
        self._starts = np.concatenate([[0], np.cumsum([3 * w * h for w, h in sizes])])
        self._bytes: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
        if len(self._bytes) != self._starts[-1]:
            raise ValueError(f"{path} has {len(self._bytes)} bytes, not {self._starts[-1]}")

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, position: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, not to be written to."""
        width, height = self._sizes[position]
        start, end = self._starts[position : position + 2]
        return self._bytes[start:end].reshape(height, width, 3)

    def __reduce__(self) -> Any:
        return MappedPixels, (self._path, self._sizes)  # a process that is spawned maps it itself


def open_pixels(
    root: Path,
    photos: list[LabelledImage],
    *,
    keep_px: int,
    limit_mib: int,
    folder: Path | None = None,
) -> MappedPixels | None:
    """Decoded images from the cache, where they are decoded into first if need be.

    Args:
        root: the dataset's folder.
        photos: with upright sizes and digests, as the audit wrote them.
        keep_px: as `read_image`.
        limit_mib: of all images in the cache; those not used for longest make room. 0: off.
        folder: of the cache; None takes that of the settings.

    Returns:
        None where they do not fit, or the cache cannot be written: decode when asked for.

    Raises:
        DatasetError: a file is not the one that was audited.
    """
    sizes = [working_size((photo.width, photo.height), keep_px) for photo in photos]
    needed = sum(3 * w * h for w, h in sizes)
    if not limit_mib or not photos:
        return None
    if needed > limit_mib * 2**20:
        say(
            f"  {len(photos)} images take {needed / 2**20:.0f} MiB decoded, data.cache_mib is "
            f"{limit_mib}: they are decoded again in every epoch."
        )
        return None
    key = digest_of_json([READER, keep_px, [photo.sha256 for photo in photos], sizes])
    try:
        top = (folder or cache_folder()) / FOLDER
        final = top / key[:32]
        if not (final / PIXELS).exists():
            top.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(top).free < needed + SPARE_BYTES:
                raise OSError(f"less than {(needed + SPARE_BYTES) / 2**20:.0f} MiB are free")
            _build(root, photos, sizes, keep_px, final)
            _make_room(top, limit_mib * 2**20, final)
        os.utime(final)
        return MappedPixels(final / PIXELS, sizes)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: no home folder
        say(f"  Images are decoded again in every epoch: no cache ({error}).")
        return None


def read_image(
    path: Path, photo: LabelledImage, keep_px: int, *, check: bool = False
) -> Image.Image:
    """Decode an image at its working size: JPEG at a fraction of its size where that suffices.

    Args:
        path: of the file.
        photo: as the audit saw it.
        keep_px: the shorter side is shrunk to this; 0 keeps every pixel.
        check: whether the bytes must be those that were audited.

    Raises:
        DatasetError: they are not, or not an image of that size.
    """
    data = read_bytes(path)
    if check and sha256_of_bytes(data) != photo.sha256:
        raise _changed(photo)
    full = (photo.width, photo.height)
    size = working_size(full, keep_px)
    if size == full:
        image = decode(data, limits=NO_LIMITS)
        if image.size != full:
            raise _changed(photo)
        return image
    # Twice the working size leaves the filter enough to average over.
    image = decode(data, limits=NO_LIMITS, at_least_px=2 * min(size))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def working_size(size: tuple[int, int], keep_px: int) -> tuple[int, int]:
    """Width and height of an image in the cache."""
    shorter = min(size)
    if not keep_px or shorter <= keep_px:
        return size
    width, height = (max(1, round(side * keep_px / shorter)) for side in size)
    return width, height


def _changed(photo: LabelledImage) -> DatasetError:
    return DatasetError(
        f"{photo.path} is not the file that was audited.",
        "Run the same command again with --from audit, or restore the file.",
    )


def _build(
    root: Path, photos: list[LabelledImage], sizes: list[tuple[int, int]], keep_px: int, final: Path
) -> None:
    """Decode all, write them aside, and give the folder its name."""
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=final.parent))
    try:
        starts = np.concatenate([[0], np.cumsum([3 * w * h for w, h in sizes])])
        target = np.memmap(partial / PIXELS, dtype=np.uint8, mode="w+", shape=(int(starts[-1]),))

        def put(position: int) -> None:
            photo = photos[position]
            image = read_image(root / photo.path, photo, keep_px, check=True)
            target[starts[position] : starts[position + 1]] = np.asarray(image).ravel()

        _in_threads(put, len(photos), shown=int(starts[-1]) > LARGE_BYTES)
        target.flush()
        fsync_path(partial / PIXELS)
        try:
            partial.rename(final)
        except OSError:
            if not (final / PIXELS).exists():  # another process was faster
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _in_threads(work: Callable[[int], None], count: int, *, shown: bool) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done: Iterable[None] = pool.map(work, range(count))
        for _ in track(done, "decoding", count, "images") if shown else done:
            pass


def _make_room(top: Path, limit: int, newest: Path) -> None:
    """Remove what was not used for longest until the rest fits."""
    entries = [path for path in top.iterdir() if (path / PIXELS).exists() and path != newest]
    room = limit - (newest / PIXELS).stat().st_size
    for path in sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True):
        room -= (path / PIXELS).stat().st_size
        if room < 0:
            shutil.rmtree(path, ignore_errors=True)

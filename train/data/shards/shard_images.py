"""Images in WebDataset shards: indexed once, then named and read as if they were files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError
from serve.contract.files import write_atomic
from serve.contract.labels import refuse_twins
from train.data.cache_folder import FileKey, cache_folder
from train.data.image_bytes import CONTAINERS as NAMES
from train.data.images import LabelledImage, labels_of
from train.data.shards.cache import ENV_LIMIT, Fetched, fetch, limit_bytes
from train.data.shards.index import ShardIndex, index_tar, read_index, write_index
from train.data.shards.patterns import Shard, ShardPattern, list_shards
from train.engine.progress import say, track

__all__ = [
    "find_images_in_shards",
    "index_folder",
    "shard_names",
    "shard_numbers",
    "warn_of_small_cache",
]

READERS = 4  # shards indexed at a time: the disk or the network is what they wait for


def index_folder(pattern: ShardPattern) -> Path:
    """Where the indices of a pattern's shards are kept; images are named relative to it."""
    return (
        cache_folder().absolute() / "shards" / sha256_of_bytes(str(pattern.resolve()).encode())[:32]
    )


def find_images_in_shards(pattern: ShardPattern) -> list[LabelledImage]:
    """List the images of shards; those that have no index are read once, from begin to end.

    Returns:
        Photos sorted by path, with label, sha256 and the split that the shards' names say.

    Raises:
        DatasetError: shards are missing, damaged or cannot be downloaded; a sample has no label or
            no image; or the classes cannot be trained on.
    """
    shards = list_shards(pattern)
    _check_there(shards)
    root = index_folder(pattern)
    todo = [shard for shard in shards if not _is_indexed(root, shard)]
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        for _ in track(pool.map(lambda s: _index(root, s), todo), "index", len(todo), "shards"):
            pass
    _write_names(root, shards)
    photos = [photo for shard in shards for photo in _photos(root, shard)]
    _check_classes(pattern, photos)
    return sorted(photos, key=lambda photo: photo.path)


def shard_numbers(root: Path, photos: Sequence[LabelledImage]) -> NDArray[np.int64] | None:
    """Which images lie in the same shard.

    Args:
        root: the dataset's folder.
        photos: whose paths are relative to it.

    Returns:
        (N,) numbers from 0, by name; None where the images are files.
    """
    names = shard_names(root)
    if not names:
        return None
    of_photos = [
        next((str(up) for up in PurePosixPath(photo.path).parents if str(up) in names), "")
        for photo in photos
    ]
    return np.unique(of_photos, return_inverse=True)[1].astype(np.int64)


def warn_of_small_cache(root: Path, lanes: int) -> None:
    """Say so where shards would be downloaded again and again: their cache holds too few."""
    indices = [read_index(root / name) for name in shard_names(root)]
    sizes = [index.size for index in indices if index and index.sha256]
    needed = sum(sorted(sizes, reverse=True)[: lanes + 1])
    if needed > limit_bytes():
        say(
            f"  {lanes} shards are read at a time, {needed / 2**20:.0f} MiB; their cache has "
            f"{limit_bytes() / 2**20:.0f}: they are downloaded again and again. Raise {ENV_LIMIT}."
        )


def _write_names(root: Path, shards: list[Shard]) -> None:
    names = sorted(shard.name for shard in shards)
    if shard_names(root) == set(names):
        return
    write_atomic(root / NAMES, json.dumps(names).encode(), shared=True)


def shard_names(root: Path) -> set[str]:
    """Names of the shards whose indices a folder holds; empty for any other folder."""
    try:
        return set(json.loads((root / NAMES).read_bytes()))
    except (OSError, ValueError):
        return set()


def _check_there(shards: list[Shard]) -> None:
    missing = [s.source for s in shards if not s.is_remote and not Path(s.source).is_file()]
    if missing:
        more = f", nor are {len(missing) - 1} others" if len(missing) > 1 else ""
        raise DatasetError(
            f"The shard {missing[0]} is not there{more} (of {len(shards)}).",
            "Patterns are ranges in braces, train-{000000..000009}.tar: name shards that exist.",
        )


def _stamp(shard: Shard) -> str:
    """Of a local file; a remote one is checked by its digest when it is read."""
    return "" if shard.is_remote else FileKey.of(Path(shard.source)).stamp


def _is_indexed(root: Path, shard: Shard) -> bool:
    index = read_index(root / shard.name)
    return index is not None and (index.source, index.stamp) == (shard.source, _stamp(shard))


def _index(root: Path, shard: Shard) -> None:
    stamp = _stamp(shard)
    file, sha256 = fetch(shard.source) if shard.is_remote else _opened(shard)
    with file:
        samples = index_tar(file, shard.source)
        size = file.seek(0, os.SEEK_END)
    write_index(root / shard.name, ShardIndex(shard.source, stamp, size, sha256, samples))


def _opened(shard: Shard) -> Fetched:
    try:
        return Fetched(Path(shard.source).open("rb"), "")
    except OSError as error:
        raise DatasetError(
            f"The shard {shard.source} cannot be read: {error.strerror}.", "Check its rights."
        ) from error


def _photos(root: Path, shard: Shard) -> list[LabelledImage]:
    index = read_index(root / shard.name)
    assert index is not None  # written just now
    return [
        LabelledImage(f"{shard.name}/{sample.member}", sample.label, shard.split, sample.sha256)
        for sample in index.samples.values()
    ]


def _check_classes(pattern: ShardPattern, photos: list[LabelledImage]) -> None:
    labels = labels_of(photos)
    if len(labels) == 1:
        raise DatasetError(
            f"{pattern} holds one class only ({labels[0]!r}); a classifier needs two or more.",
            "Pack images of the other classes too, in mixed order.",
        )
    trained = {photo.label for photo in photos if photo.split in ("", "train")}
    if unknown := sorted(set(labels) - trained):
        refuse_twins(pattern, unknown, trained)
        raise DatasetError(
            f"{pattern}: {', '.join(unknown)} occur in val or test but not in train.",
            "Add training images of them, or leave them out.",
        )

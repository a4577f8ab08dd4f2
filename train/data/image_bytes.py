"""The bytes of an image, wherever it lies: a file, or a member of a container such as a shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data.images import LabelledImage

__all__ = [
    "CONTAINERS",
    "READERS",
    "containers_of",
    "read_bytes",
    "sha256_of_member",
    "warn_of_slow_reading",
]

# Kinds of containers, by their suffix: a module with read_member and sha256_of_member.
READERS = {".tar": "train.data.shards.members"}
CONTAINERS = "shards.json"  # in a dataset's folder: the names of its containers, if it has any
SHARDS = "train.data.shards.shard_images"


def read_bytes(path: Path) -> bytes:
    """All bytes of an image.

    Args:
        path: of a file; or `folder of indices / container / member`.

    Raises:
        OSError: no such file and no such member, or it cannot be read.
        DatasetError: its container is gone, cannot be had, or has changed.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        reader = _reader_of(path)
        data: bytes | None = None if reader is None else reader.read_member(path)
        if data is None:
            raise
    return data


def sha256_of_member(path: Path) -> str | None:
    """The digest of an image in a container, without reading it; None where it is not in one."""
    reader = _reader_of(path)
    return None if reader is None else reader.sha256_of_member(path)


def containers_of(root: Path, photos: Sequence[LabelledImage]) -> NDArray[np.int64] | None:
    """Which images lie in the same container.

    Args:
        root: the dataset's folder.
        photos: whose paths are relative to it.

    Returns:
        (N,) numbers from 0, by name; None where the images are files.
    """
    if not (root / CONTAINERS).exists():
        return None
    numbers: NDArray[np.int64] | None = resolve_name(f"{SHARDS}:shard_numbers")(root, photos)
    return numbers


def warn_of_slow_reading(root: Path, open_at_once: int) -> None:
    """Say so where containers would be downloaded again and again."""
    if (root / CONTAINERS).exists():
        resolve_name(f"{SHARDS}:warn_of_small_cache")(root, open_at_once)


def _reader_of(path: Path) -> Any:
    for folder in path.parents:
        if folder.suffix in READERS:
            return resolve_name(READERS[folder.suffix])
    return None

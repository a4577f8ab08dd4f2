"""Reading the files of a dataset: each is decoded once, and again when it changes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import ImageError, TooManyPixels
from serve.contract.preprocess import DecodeLimits, decode
from train.data.audit.cache import AuditCache, FileFacts, open_cache
from train.data.audit.near_duplicates import thumbnail_of
from train.data.audit.remarks import remarks_of
from train.data.cache_folder import READER, FileKey
from train.data.image_bytes import read_bytes, sha256_of_member
from train.data.images import LabelledImage
from train.data.own_images import limits_of
from train.engine.progress import track
from train.options import DataOptions

__all__ = ["read_facts"]

OWN_LIMITS = limits_of(DataOptions())
RAISE = "for your own images raise data.max_megapixels"
KEPT_EVERY = 500  # files read between two writes to the cache: an audit that is stopped goes on


def read_facts(
    root: Path, photos: list[LabelledImage], limits: DecodeLimits = OWN_LIMITS
) -> list[FileFacts]:
    """What every file is, in order; those that the cache knows are not opened."""
    with open_cache() as cache:
        keys = [_key_of(root / photo.path, limits) for photo in photos]
        known = cache.read([key for key in keys if key is not None])
        todo = [i for i, key in enumerate(keys) if key is None or key.path not in known]
        facts = [known.get(key.path, FileFacts()) if key else FileFacts() for key in keys]
        paths = [root / photos[i].path for i in todo]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            read = track(pool.map(_read, paths, repeat(limits)), "audit", len(paths), "images")
            fresh = []
            for i, one in zip(todo, read, strict=True):
                facts[i] = one
                fresh.append((keys[i], one))
                if len(fresh) == KEPT_EVERY:
                    _keep(cache, fresh)
                    fresh = []
        _keep(cache, fresh)
    return facts


def _key_of(path: Path, limits: DecodeLimits) -> FileKey | None:
    try:
        key: FileKey | None = FileKey.of(path)
    except OSError:
        key = _key_in_shard(path)
    if key is None or limits == OWN_LIMITS:
        return key
    return replace(key, stamp=f"{key.stamp}/{limits.max_pixels}")


def _key_in_shard(path: Path) -> FileKey | None:
    sha256 = sha256_of_member(path)
    return None if sha256 is None else FileKey(str(path), f"{sha256}/{READER}", 0.0)


def _keep(cache: AuditCache, facts: list[tuple[FileKey | None, FileFacts]]) -> None:
    """Remember what was decoded or refused; a file that could not be read may be readable soon."""
    cache.write((key, one) for key, one in facts if key is not None and one.sha256)


def _read(path: Path, limits: DecodeLimits) -> FileFacts:
    try:
        data = read_bytes(path)
    except OSError as error:
        return FileFacts(problem=error.strerror or type(error).__name__)
    sha256 = sha256_of_bytes(data)
    try:
        image = decode(data, limits=limits)
    except TooManyPixels as error:
        return FileFacts(sha256, problem=f"{error.message.rstrip('.')} ({RAISE})")
    except ImageError as error:
        return FileFacts(sha256, problem=error.message)
    return FileFacts(sha256, *image.size, thumbnail_of(image).tobytes(), remarks=remarks_of(data))

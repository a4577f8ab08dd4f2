"""Shards behind URLs: downloaded whole, checked, kept on disk within a limit.

A shard is kept under the sha256 of its bytes. Those not used for longest make room. The limit is
$STILLROOM_SHARD_CACHE_MIB; the folder is `shard-files` in `train.data.cache_folder.cache_folder()`
and may be deleted at any time.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError, UsageError
from serve.contract.files import fsync_path
from train.data.cache_folder import cache_folder
from train.data.shards.download import blocks_of
from train.engine.progress import say

__all__ = ["ENV_LIMIT", "Fetched", "discard", "fetch", "limit_bytes"]

ENV_LIMIT = "STILLROOM_SHARD_CACHE_MIB"
DEFAULT_MIB = 32768
ATTEMPTS = 4  # downloads of one shard before it is given up
PAUSE_S = 0.5  # before the second attempt; doubles from then on
BLOCK = 2**20  # bytes
LOOKS = 16  # at the limit while as many bytes are downloaded
STALE_S = 3600.0  # a download that did not grow for so long belongs to a process that is gone


class Fetched(NamedTuple):
    """A shard that was fetched: an open file, which can be read even if it is evicted meanwhile."""

    file: BinaryIO
    sha256: str


class _Failed(Exception):
    """One download came to nothing; another one may not."""


def fetch(url: str, sha256: str = "") -> Fetched:
    """The bytes of a remote shard, from the cache or into it; the caller closes the file.

    Args:
        url: http:// or https://.
        sha256: that the bytes must have; empty takes them as they are, and always downloads.

    Raises:
        DatasetError: it cannot be downloaded or kept, or has other bytes.
    """
    folder = _folder()
    try:
        if sha256 and (kept := _kept(folder, sha256)):
            return kept
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, url) as partial:
            if sha256 and (kept := _kept(folder, sha256)):
                return kept  # another process was faster
            return _attempt(url, sha256, folder, partial)
    except OSError as error:
        raise DatasetError(
            f"The shard {url} cannot be kept in {folder}: {error.strerror or error}.",
            "Make that folder writable, or set STILLROOM_CACHE to another one.",
        ) from error


def discard(sha256: str) -> None:
    """Forget a shard whose bytes were damaged on this disk."""
    (_folder() / f"{sha256}.tar").unlink(missing_ok=True)


def limit_bytes() -> int:
    """How much disk the shards may take together.

    Raises:
        UsageError: the variable is not a number above 0.
    """
    text = os.environ.get(ENV_LIMIT, str(DEFAULT_MIB))
    if not text.isdigit() or not int(text):
        raise UsageError(f"{ENV_LIMIT} is {text!r}.", "Set it to a number of MiB, 1 or more.")
    return int(text) * 2**20


def _folder() -> Path:
    return cache_folder() / "shard-files"


def _kept(folder: Path, sha256: str) -> Fetched | None:
    path = folder / f"{sha256}.tar"
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with suppress(FileNotFoundError):
        os.utime(path)  # the least recently used goes first
    return Fetched(file, sha256)


@contextmanager
def _locked(folder: Path, url: str) -> Iterator[Path]:
    """Of all processes, one downloads a shard; the others wait and find it."""
    name = sha256_of_bytes(url.encode())[:32]
    with (folder / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        partial = folder / f"{name}.partial"
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)


def _attempt(url: str, sha256: str, folder: Path, partial: Path) -> Fetched:
    pause_s = PAUSE_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            digest = _download(url, partial, folder)
            if sha256 and digest != sha256:
                raise _Failed(f"its bytes are not those that were indexed (sha256 {digest[:12]})")
        except _Failed as failure:
            if attempt == ATTEMPTS:
                raise _given_up(url, str(failure), folder) from failure
            say(f"  The shard {url} again, attempt {attempt + 1} of {ATTEMPTS}: {failure}.")
            time.sleep(pause_s)
            pause_s *= 2
        else:
            file = partial.open("rb")
            partial.replace(folder / f"{digest}.tar")
            fsync_path(folder)
            return Fetched(file, digest)
    raise AssertionError("unreachable")


def _given_up(url: str, why: str, folder: Path) -> DatasetError:
    if "indexed" in why:
        step = "Restore it; or, if the change is meant, "
        step += f"delete {folder.parent / 'shards'} and run again: all shards are indexed anew."
    elif "disk" in why:
        step = f"Free some space, or set STILLROOM_CACHE to another disk, or {ENV_LIMIT} lower."
    else:
        step = "Check the address and the server, and run the same command again."
    return DatasetError(f"The shard {url} failed {ATTEMPTS} times: {why}.", step)


def _download(url: str, partial: Path, folder: Path) -> str:
    """Write the bytes of a URL to a file, with room made for them; return their sha256."""
    digest, limit, size, room = hashlib.sha256(), limit_bytes(), 0, 0
    try:
        with partial.open("wb") as file:
            for block in blocks_of(url, BLOCK):
                size += len(block)
                if size > limit:
                    raise DatasetError(
                        f"The shard {url} is larger than the limit of {limit / 2**20:.0f} MiB.",
                        f"Raise {ENV_LIMIT}, or pack smaller shards.",
                    )
                if size > room:
                    _make_room(folder, limit - limit // LOOKS)
                    room = size + limit // LOOKS - BLOCK
                _write(file, block)
                digest.update(block)
        fsync_path(partial)
        _make_room(folder, limit)
    except OSError as error:
        raise _Failed(_reason(error, folder)) from error
    return digest.hexdigest()


def _write(file: BinaryIO, block: bytes) -> None:
    """Of its own so that a test can let the disk be full."""
    file.write(block)


def _reason(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        _make_room(folder, 0)
        return "the disk of the shard cache is full"
    return str(error)


def _make_room(folder: Path, limit: int) -> None:
    """Remove the shards not used for longest until all files together are within the limit."""
    found = []
    for path in (*folder.glob("*.tar"), *folder.glob("*.partial")):
        with suppress(FileNotFoundError):
            stat = path.stat()
            found.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in found)
    stale_s = time.time() - STALE_S
    for used_s, size, path in sorted(found):
        is_gone = path.suffix == ".partial" and used_s < stale_s
        if is_gone or (path.suffix == ".tar" and total > limit):
            path.unlink(missing_ok=True)
            total -= size

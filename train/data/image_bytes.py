"""The bytes of a photograph, wherever it lies: a file, or a member of a WebDataset shard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError
from train.data.shards.cache import discard, fetch
from train.data.shards.index import ShardIndex, ShardSample, read_index

__all__ = ["ByteLocation", "location_of", "read_bytes"]

INDEXED_ANEW = "Restore it; or, if the change is meant, run again: the shard is indexed anew."


@dataclass(frozen=True)
class ByteLocation:
    """A photograph within a shard."""

    shard: ShardIndex
    sample: ShardSample

    def read(self) -> bytes:
        """Its bytes, which are those that were indexed.

        Raises:
            DatasetError: the shard is gone, cannot be had, or has changed.
        """
        data = self._bytes()
        if self.shard.sha256 and not self._is_right(data):
            discard(self.shard.sha256)  # what was downloaded was right: this disk damaged it
            data = self._bytes()
        if not self._is_right(data):
            raise DatasetError(
                f"The shard {self.shard.source} has changed since it was indexed: "
                f"{self.sample.member} has other bytes.",
                INDEXED_ANEW,
            )
        return data

    def _is_right(self, data: bytes) -> bool:
        return sha256_of_bytes(data) == self.sample.sha256

    def _bytes(self) -> bytes:
        source, sha256 = self.shard.source, self.shard.sha256
        try:
            with fetch(source, sha256).file if sha256 else Path(source).open("rb") as file:
                file.seek(self.sample.offset)
                return file.read(self.sample.size)
        except OSError as error:
            raise DatasetError(
                f"The shard {source} cannot be read: {error.strerror}.",
                "Put it back where it was, or check its rights.",
            ) from error


def read_bytes(path: Path) -> bytes:
    """All bytes of a photograph.

    Args:
        path: of a file; or `folder of indices / shard / member`, see `train.data.shards.index`.

    Raises:
        OSError: there is no such file and no such member, or it cannot be read.
        DatasetError: its shard is gone, cannot be had, or has changed.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        place = location_of(path)
        if place is None:
            raise
    return place.read()


def location_of(path: Path) -> ByteLocation | None:
    """Where a photograph lies within a shard; None where no index names it."""
    for folder in path.parents:
        if folder.suffix == ".tar" and (index := read_index(folder)) is not None:
            sample = index.samples.get(path.relative_to(folder).as_posix())
            return ByteLocation(index, sample) if sample else None
    return None

"""Members of WebDataset shards: where an image's bytes lie, and that they are the right ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError
from train.data.shards.cache import discard, fetch
from train.data.shards.index import ShardIndex, ShardSample, read_index

__all__ = ["ByteLocation", "location_of", "read_member", "sha256_of_member"]

INDEXED_ANEW = "Restore it; or, if the change is meant, run again: the shard is indexed anew."


@dataclass(frozen=True)
class ByteLocation:
    """An image within a shard."""

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


def read_member(path: Path) -> bytes | None:
    """The bytes of a member; None where no index names it. See `train.data.image_bytes.READERS`."""
    place = location_of(path)
    return None if place is None else place.read()


def sha256_of_member(path: Path) -> str | None:
    """The digest of a member, as its index has it; None where no index names it."""
    place = location_of(path)
    return None if place is None else place.sample.sha256


def location_of(path: Path) -> ByteLocation | None:
    """Where an image lies within a shard; None where no index names it."""
    for folder in path.parents:
        if folder.suffix == ".tar" and (index := read_index(folder)) is not None:
            sample = index.samples.get(path.relative_to(folder).as_posix())
            return ByteLocation(index, sample) if sample else None
    return None

"""ShardSource: labelled images in WebDataset shards, a `train.data.source.Source`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from train.data.folder import Listing
from train.data.shards.patterns import ShardPattern
from train.data.shards.shard_images import find_images_in_shards, index_folder
from train.options import DataOptions

__all__ = ["ShardSource"]


@dataclass(frozen=True)
class ShardSource(ShardPattern):
    """Shards by a pattern: their names say the split, and each sample has its label."""

    def resolve(self) -> ShardSource:
        """As `Source`."""
        return ShardSource(super().resolve().text)

    @property
    def root(self) -> Path:
        """Where the indices of the shards are kept."""
        return index_folder(self)

    def images(self, options: DataOptions) -> Listing:
        """As `Source`; shards without an index are read once, from begin to end."""
        del options  # they are about folders
        return Listing(find_images_in_shards(self))

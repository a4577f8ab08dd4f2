"""Patterns of WebDataset shards: which tar files they mean, what each is called, and its split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from serve.contract.errors import DatasetError
from train.data.folders.split_words import SPLIT_WORDS

__all__ = ["Shard", "ShardPattern", "list_shards"]

URL = re.compile(r"https?://")
TAR = re.compile(r"\.(tar(\.\w+)?|tgz)$")
# The first word of a shard's file name, or of the folder it lies in.
SPLIT = re.compile(rf"(?:^|/)({'|'.join(SPLIT_WORDS)})(?=[-_./\d])", re.IGNORECASE)


@dataclass(frozen=True)
class ShardPattern:
    """Shards as the user names them: paths or URLs with braces, several of them joined by `::`.

    Args:
        text: for example `photos/train-{000000..000009}.tar`.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def resolve(self) -> ShardPattern:
        """The same shards by absolute paths; URLs stay as they are."""
        parts = [
            part if URL.match(part) else str(Path(part).expanduser().absolute())
            for part in self.text.split("::")
            if part
        ]
        return ShardPattern("::".join(parts))

    @property
    def name(self) -> str:
        """What a run of it is called: the folder of its first shard, or the host."""
        path = self.resolve().text.split("::")[0]
        parts = [part for part in re.split(r"/+", path)[:-1] if "{" not in part]
        return re.sub(r"[^\w.-]", "-", parts[-1]) if parts and parts[-1] else "shards"


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Args:
        source: absolute path, or URL.
        name: unique among those of its pattern; images are called `name/member`.
        split: train, val or test where the names say it, else empty.
    """

    source: str
    name: str
    split: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether it must be downloaded."""
        return URL.match(self.source) is not None


def list_shards(pattern: ShardPattern) -> list[Shard]:
    """The shards that a pattern means, by name; nothing is opened.

    Raises:
        DatasetError: it means none, one of them twice, or a compressed one; or split names that
            leave open what the other shards are.
    """
    sources = _expand(pattern.resolve())
    for source in sources:
        if not urlsplit(source).path.endswith(".tar") and TAR.search(source):
            raise DatasetError(
                f"{source} is compressed: a sample in it cannot be read without all before it.",
                "Unpack it to a plain .tar: images do not become smaller by compression.",
            )
    names = _names(sources)
    splits = _splits(names)
    shards = [Shard(s, n, p) for s, n, p in zip(sources, names, splits, strict=True)]
    return sorted(shards, key=lambda shard: shard.name)


def _expand(pattern: ShardPattern) -> list[str]:
    from webdataset.shardlists import expand_urls

    try:
        sources: list[str] = [source for source in expand_urls(pattern.text) if source]
    except (ValueError, AssertionError) as error:  # unbalanced braces; no such ${variable}
        raise DatasetError(
            f"The pattern {pattern.text!r} cannot be read: {error}.",
            "Write ranges in braces: train-{000000..000009}.tar",
        ) from error
    if not sources:
        raise DatasetError(
            f"The pattern {pattern.text!r} names no shard.",
            "Write ranges in braces: train-{000000..000009}.tar",
        )
    if len(set(sources)) < len(sources):
        twice = next(source for source in sources if sources.count(source) > 1)
        raise DatasetError(f"{pattern} names {twice} twice.", "Name each shard once.")
    return sources


def _names(sources: list[str]) -> list[str]:
    """Paths without the folders that all have in common."""
    paths = [PurePosixPath(urlsplit(source).netloc + urlsplit(source).path) for source in sources]
    common = 0
    while len({path.parts[: common + 1] for path in paths}) == 1 and all(
        len(path.parts) > common + 1 for path in paths
    ):
        common += 1
    return ["/".join(path.parts[common:]) for path in paths]


def _splits(names: list[str]) -> list[str]:
    found = [SPLIT.search(name) for name in names]
    splits = [SPLIT_WORDS[match[1].lower()] if match else "" for match in found]
    if all(splits):
        if "train" not in splits:
            raise DatasetError(
                f"The shards are of {', '.join(sorted(set(splits)))}, none is of train.",
                "Add train shards: '{train-{000..009},val-{000..001}}.tar'.",
            )
        return splits
    if len(set(splits)) > 2:  # two splits, and shards without one
        unnamed = names[splits.index("")]
        raise DatasetError(
            f"Some shards are called after a split, and {unnamed} is not.",
            "Call every shard after its split (train-, val-, test-), or none.",
        )
    return [""] * len(names)

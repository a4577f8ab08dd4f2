"""What is in a shard: each sample's image by place, label and digest, found in one pass.

The grouping of members into samples is WebDataset's own. The index of a shard is a JSON file in a
folder called like the shard, so that `root / "train-000003.tar" / "rose-17.jpg"` names an image
as if the shard were unpacked there.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError
from serve.contract.files import write_atomic

__all__ = ["INDEX", "ShardIndex", "ShardSample", "index_tar", "read_index", "write_index"]

INDEX = "index.json"
VERSION = 1
IMAGES = ("jpg", "jpeg", "jpe", "png", "webp")
LABELS = ("cls", "json")
BLOCK = 512  # bytes, of a tar file
PACK = "Pack it again (docs/shards.md)."


@dataclass(frozen=True)
class ShardSample:
    """A labelled image in a shard.

    Args:
        member: its name there.
        offset: of its bytes in the shard.
        size: in bytes.
        label: the class.
        sha256: of its bytes.
    """

    member: str
    offset: int
    size: int
    label: str
    sha256: str


@dataclass(frozen=True)
class ShardIndex:
    """The index of one shard.

    Args:
        source: absolute path, or URL.
        stamp: of a local file: its size, times and inode; other ones mean an index anew.
        size: of the shard in bytes.
        sha256: of a remote shard's bytes; empty for a local one.
        samples: by member.
    """

    source: str
    stamp: str
    size: int
    sha256: str
    samples: dict[str, ShardSample]


@dataclass(frozen=True)
class _Member:
    """A member of a shard; the bytes of images are not kept."""

    name: str
    offset: int
    size: int
    sha256: str
    text: bytes


def index_tar(file: BinaryIO, name: str) -> dict[str, ShardSample]:
    """Read a tar file once, from its begin to its end.

    Args:
        file: at its begin.
        name: of the shard, for messages.

    Returns:
        Samples by member, in the order of the file.

    Raises:
        DatasetError: it is not a plain tar file or is cut short; or a sample has no image or no
            label, two of them, or the key of another one.
    """
    from webdataset.tariterators import group_by_keys

    samples: dict[str, ShardSample] = {}
    keys: set[str] = set()
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            members = _members(tar, file, name)
            for grouped in group_by_keys(members):
                key = grouped.pop("__key__")
                if key in keys:
                    raise _twice(name, key)
                keys.add(key)
                sample = _sample(name, key, grouped)
                samples[sample.member] = sample
    except tarfile.ReadError as error:
        raise DatasetError(
            f"The shard {name} is not a whole, plain tar file: {error}.",
            "Copy it again, or pack it again without compression.",
        ) from error
    except ValueError as error:  # WebDataset's, of a member that comes twice
        if "duplicate file name" not in str(error.args[0]):
            raise
        raise _twice(name, error.args[0].split(":")[0]) from error
    if not samples:
        raise DatasetError(f"The shard {name} holds no sample.", PACK)
    return samples


def _members(tar: tarfile.TarFile, file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """Members as WebDataset's own reader yields them, with their places in place of bytes."""
    end = 0
    for info in tar:
        end = info.offset_data + -(-info.size // BLOCK) * BLOCK
        member = PurePosixPath(info.name).as_posix()
        hidden = PurePosixPath(member).name.startswith((".", "__"))
        if not info.isreg() or hidden:
            continue
        if ".." in PurePosixPath(member).parts or member.startswith("/"):
            raise DatasetError(f"The shard {name} has a member {member!r} outside of it.", PACK)
        file.seek(info.offset_data)
        data = file.read(info.size)
        if len(data) != info.size:
            raise tarfile.ReadError("unexpected end of data")
        is_label = member.lower().rpartition(".")[2] in LABELS
        found = _Member(
            member,
            info.offset_data,
            info.size,
            sha256_of_bytes(data),
            data if is_label else b"",
        )
        yield {"fname": member, "data": found, "__url__": name}
    file.seek(end)
    if file.read(BLOCK) != bytes(BLOCK):
        raise tarfile.ReadError("the mark of its end is missing, so it is cut short")


def _sample(name: str, key: str, found: dict[str, Any]) -> ShardSample:
    members = {suffix: one for suffix, one in found.items() if isinstance(one, _Member)}
    images = [one for suffix, one in members.items() if suffix in IMAGES]
    if len(images) != 1:
        has = " and ".join(sorted(one.name for one in images)) or ", ".join(sorted(members))
        what = "two images" if images else "no image"
        raise DatasetError(
            f"The shard {name} has a sample {key!r} with {what} ({has}).",
            f"A sample is one KEY.{{{','.join(IMAGES)}}} with KEY.cls or KEY.json, where KEY has "
            "no dot.",
        )
    labels = {_label(name, suffix, members[suffix]) for suffix in LABELS if suffix in members}
    if len(labels) != 1:
        what = f"two labels ({', '.join(sorted(labels))})" if labels else "no label"
        raise DatasetError(
            f"The shard {name} has a sample {key!r} with {what}.",
            f"Add {key}.cls with the name or number of its class, or {key}.json with a "
            '"label", next to the image.',
        )
    (image,) = images
    return ShardSample(image.name, image.offset, image.size, labels.pop(), image.sha256)


def _label(name: str, suffix: str, member: _Member) -> str:
    value: Any = None
    try:
        text = member.text.decode("utf-8")
        value = text.strip() if suffix == "cls" else json.loads(text)["label"]
    except (ValueError, KeyError, TypeError):
        pass
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise DatasetError(
            f"The shard {name}: {member.name} holds no label.",
            'A .cls file is the name or number of a class, a .json file has it as "label".',
        )
    return value.strip()


def _twice(name: str, key: str) -> DatasetError:
    return DatasetError(
        f"The shard {name} has two samples {key!r}.",
        "Keys are unique, and the members of a sample lie next to one another. " + PACK,
    )


def write_index(folder: Path, index: ShardIndex) -> None:
    """Write a shard's index into the folder called like it; one that is cut off leaves none."""
    folder.mkdir(parents=True, exist_ok=True)
    value = {
        "version": VERSION,
        "source": index.source,
        "stamp": index.stamp,
        "size": index.size,
        "sha256": index.sha256,
        "samples": [astuple(sample) for sample in index.samples.values()],
    }
    write_atomic(folder / INDEX, json.dumps(value).encode(), shared=True)


def read_index(folder: Path) -> ShardIndex | None:
    """The index of a shard; None where there is none that can be used."""
    path = folder / INDEX
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@lru_cache(maxsize=64)
def _read(path: Path, written_ns: int) -> ShardIndex:
    value = json.loads(path.read_bytes())
    if value["version"] != VERSION:
        raise ValueError(value["version"])
    samples = {row[0]: ShardSample(*row) for row in value["samples"]}
    return ShardIndex(value["source"], value["stamp"], value["size"], value["sha256"], samples)

"""Proof that a training left tensors alone: their digests before and after, from the very files.

Needs no torch: whoever has both checkpoints can repeat it, and `stillroom verify` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from serve.contract.digest import digest_of_json
from serve.contract.errors import GateError

__all__ = ["prove_frozen", "tensor_digests"]

LENGTH = 8  # bytes of the number that a safetensors file begins with: the length of its header


def tensor_digests(data: bytes) -> dict[str, str]:
    """Hex sha256 of each tensor's type, shape and bytes, by name.

    Args:
        data: a safetensors file.

    Raises:
        ValueError: the bytes are no such file.

    Source: the format's description, github.com/huggingface/safetensors, "Format".
    """
    start = LENGTH + int.from_bytes(data[:LENGTH], "little")
    try:
        entries = json.loads(data[LENGTH:start]).items()
    except (ValueError, AttributeError) as error:
        raise ValueError("it does not begin with the header of a safetensors file") from error
    digests = {}
    for name, entry in entries:
        if name == "__metadata__":
            continue
        try:
            first, last = entry["data_offsets"]
            kind = f"{entry['dtype']} {entry['shape']} ".encode()
        except (TypeError, KeyError) as error:
            raise ValueError(f"{name} is not an entry of a safetensors header") from error
        if not 0 <= first <= last <= len(data) - start:
            raise ValueError(f"{name} lies outside of the file")
        digests[name] = hashlib.sha256(kind + data[start + first : start + last]).hexdigest()
    return digests


def prove_frozen(
    before: Mapping[str, str], after: Mapping[str, str], *, free: Collection[str]
) -> dict[str, Any]:
    """Prove that only the free tensors changed.

    Args:
        before: digest by name, of `tensor_digests`.
        after: likewise.
        free: names that may change.

    Returns:
        `frozen_tensors`, how many had to stay; `frozen_digest_before` and `frozen_digest_after`,
        one digest over all of those each, which are equal; `free`; and `changed`, of the free ones.

    Raises:
        GateError: a tensor came, went or changed that had to stay.
    """
    if odd := sorted(before.keys() ^ after.keys()):
        raise GateError(
            f"{len(odd)} tensors are in one of the two checkpoints only, first {odd[0]}.",
            "They are not of one model: build FixRes again from its student.",
        )
    changed = sorted(name for name in before if after[name] != before[name])
    if wrong := [name for name in changed if name not in free]:
        raise GateError(
            f"FixRes changed {len(wrong)} tensors that are frozen, first {wrong[0]}.",
            "This is a bug in stillroom; please report it with the recipe.",
        )
    frozen = [name for name in before if name not in free]
    return {
        "frozen_tensors": len(frozen),
        "frozen_digest_before": digest_of_json({name: before[name] for name in frozen}),
        "frozen_digest_after": digest_of_json({name: after[name] for name in frozen}),
        "free": sorted(name for name in before if name in free),
        "changed": changed,
    }

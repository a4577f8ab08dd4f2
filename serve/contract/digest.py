"""Content digests: sha256 of bytes, of files, and of JSON in one canonical form."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["canonical_json", "digest_of_json", "sha256_of_bytes", "sha256_of_file"]


def sha256_of_bytes(data: bytes) -> str:
    """Hex sha256, 64 characters."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, indent 1, UTF-8, final newline.

    Raises:
        ValueError: the value holds NaN or infinity, which JSON has no word for.
    """
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def digest_of_json(value: Any) -> str:
    """Hex sha256 of `canonical_json`."""
    return sha256_of_bytes(canonical_json(value))

"""manifest.json: what a stage folder holds, where it came from, and a digest of both.

The file is canonical JSON. Its `digest` covers every other key, `files` covers every byte of every
listed file, and a reader refuses a file that is not in canonical form: so no byte of a published
folder can change unnoticed. What may differ between equal builds (wall time, peak memory) is in
`runtime.json`, for trainings in `timings.jsonl`, and for files of reduced precision in
`benefit.json`: no digest covers those.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serve.contract.digest import canonical_json, digest_of_json, sha256_of_file
from serve.contract.errors import ArtifactError, StillroomError

__all__ = [
    "ENGINES",
    "MANIFEST",
    "RUNTIME",
    "SCHEMA_VERSION",
    "damaged_files",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "manifest.json"
RUNTIME = "runtime.json"
SCHEMA_VERSION = "1.0"
UNLISTED = (MANIFEST, RUNTIME, "timings.jsonl", "benefit.json")
ENGINES = "engines"  # TensorRT plans, below an artifact's folder
CACHES = (ENGINES,)  # folders of what a machine made of the files for itself


def write_manifest(folder: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """List and hash every file below `folder`, add `fields`, and write manifest.json.

    Args:
        folder: the finished stage folder; hidden files and caches are not listed.
        fields: JSON values; `files`, `schema_version` and `digest` are added here.

    Returns:
        The manifest as written.

    Raises:
        ValueError: a field holds NaN or infinity.
    """
    files = {
        path.relative_to(folder).as_posix(): sha256_of_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in UNLISTED and not _is_private(path, folder)
    }
    body = {**fields, "schema_version": SCHEMA_VERSION, "files": files}
    manifest = {**body, "digest": digest_of_json(body)}
    (folder / MANIFEST).write_bytes(canonical_json(manifest))
    return manifest


def read_manifest(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """Read manifest.json and check its own digest; the files are checked by `damaged_files`.

    Args:
        folder: a published stage folder.
        kind: expected kind, for example "artifact"; any when None.

    Raises:
        ArtifactError: missing, damaged, of an unknown major version or of another kind.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
        manifest: dict[str, Any] = json.loads(data)
        version = str(manifest["schema_version"])
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} holds no {MANIFEST}.", "Name a folder that stillroom published."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, type(error).__name__) from error
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise ArtifactError(
            f"{path} has schema version {version}; this stillroom reads {SCHEMA_VERSION}.",
            "Use the stillroom that wrote it, or export again.",
        )
    body = {key: value for key, value in manifest.items() if key != "digest"}
    if canonical_json(manifest) != data or manifest.get("digest") != digest_of_json(body):
        raise _damaged(path, "its digest does not match its content")
    if kind is not None and manifest.get("kind") != kind:
        raise ArtifactError(f"{folder} is of kind {manifest.get('kind')!r}; expected {kind!r}.")
    return manifest


def damaged_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Re-hash every listed file.

    Returns:
        One sentence per file that is missing or has other bytes; empty when all is well.
    """
    found = []
    for name, expected in sorted(manifest["files"].items()):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            found.append(f"{name} points outside the folder")
        elif not path.is_file():
            found.append(f"{name} is missing")
        elif (actual := sha256_of_file(path)) != expected:
            found.append(f"{name} has sha256 {actual[:12]}, the manifest says {expected[:12]}")
    return found


def _is_private(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return parts[0] in CACHES or any(part.startswith(".") for part in parts)


def _damaged(path: Path, why: str) -> StillroomError:
    return ArtifactError(
        f"{path} is damaged ({why}).", "Restore it, or build the stage again: stillroom run."
    )

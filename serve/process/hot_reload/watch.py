"""Watch: a new artifact is served as soon as it is published in the old one's place.

`stillroom run` publishes by renaming a finished folder. Other ways of copying are slower than a
look, so what is found must be the same in two looks before it is tried. Each is tried once:
after a refusal or a rollback the service waits for the next.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from serve.contract.artifact import artifact_root
from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import StillroomError
from serve.contract.manifest import MANIFEST
from serve.process.hot_reload.reload import ModelSlot

__all__ = ["fingerprint_of", "watch_artifact"]


async def watch_artifact(
    slot: ModelSlot,
    folder: Path,
    every_s: float,
    *,
    fingerprint: Callable[[Path], str] | None = None,
) -> None:
    """Reload whenever the artifact in `folder` changes; runs until it is cancelled.

    Args:
        slot: whose model is changed.
        folder: the artifact folder, or the run folder above it.
        every_s: time between two looks.
        fingerprint: names what lies in the folder; `fingerprint_of` unless a test says otherwise.
    """
    look = fingerprint or fingerprint_of
    before = ""
    while True:
        found = await asyncio.to_thread(look, folder)
        if found and found == before and found != slot.tried:
            with suppress(StillroomError):  # logged there; the old one serves on
                await slot.reload(folder)
            slot.tried = found
        before = found
        await asyncio.sleep(every_s)


def fingerprint_of(folder: Path) -> str:
    """A name for what lies in an artifact folder, from the manifest and from stat of its files.

    Returns:
        Empty while the manifest cannot be read.
    """
    root = artifact_root(folder)
    try:
        text = (root / MANIFEST).read_bytes()
        names = sorted(json.loads(text)["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    facts = [sha256_of_bytes(text)]
    for name in names:
        try:
            stat = (root / name).stat()
            facts.append(f"{name} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}")
        except OSError:
            facts.append(f"{name} missing")
    return sha256_of_bytes("\n".join(facts).encode())

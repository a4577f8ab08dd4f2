"""ArtifactCopy: a copy of what is being served, so that a replaced worker serves the same.

    <control>/kept/<digest>/    a verified artifact
    <control>/kept/current      the digest to serve
    <control>/kept/previous     the digest to which a rollback goes
    <control>/kept/seen         what the watch has already tried (`serve.process.hot_reload.watch`)

Without it, a worker that replaces a dead one would take whatever lies in the artifact's folder by
then: a version that was just refused or rolled back, or half of a copy. Workers share the folder;
each writes the same thing, aside, and renames it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from secrets import token_hex

from serve.contract.artifact import Artifact
from serve.contract.errors import UsageError
from serve.contract.manifest import ENGINES
from serve.settings import Settings

__all__ = ["ArtifactCopy", "copies_of"]

COPIES = 4  # of these, workers that change one after the other use three at most


class ArtifactCopy:
    """The copies of one running service.

    Args:
        folder: private to the service and as short-lived; made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def current(self) -> Path | None:
        """The copy that a new worker must serve; None where nothing is kept."""
        return self._copy_named("current")

    def previous(self) -> Path | None:
        """The copy that was served before; None where there was none."""
        return self._copy_named("previous")

    def clear(self) -> None:
        """Forget everything: a service that starts anew serves its artifact, not an old copy."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep(self, artifact: Artifact, *, previous: str = "") -> None:
        """Copy a verified artifact, unless it is there, and make it the current one.

        Args:
            artifact: that is served from now on.
            previous: digest of the one before it; the note of it stays as it is when empty.

        Raises:
            UsageError: no space, or no right to write.
        """
        try:
            self._copy(artifact)
            os.utime(self._folder / artifact.digest)
            if previous:
                self._write("previous", previous)
            self._write("current", artifact.digest)
        except OSError as error:
            raise UsageError(
                f"No copy of the artifact can be kept ({_reason(error)}).",
                "It goes to the folder for temporary files: make room there, or set TMPDIR.",
            ) from error
        copies = [path for path in self._folder.glob("[!.]*") if path.is_dir()]
        for path in sorted(copies, key=_age)[COPIES:]:
            shutil.rmtree(path, ignore_errors=True)

    @property
    def seen(self) -> str:
        """What the watch noted last; empty before that."""
        return self._read("seen")

    @seen.setter
    def seen(self, fingerprint: str) -> None:
        self._write("seen", fingerprint)

    def _copy(self, artifact: Artifact) -> None:
        kept = self._folder / artifact.digest
        if kept.is_dir():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self._aside()
        try:
            shutil.copytree(artifact.root, aside, ignore=shutil.ignore_patterns(ENGINES, ".*"))
            # plans stay one cache, or each service would build its own
            (aside / ENGINES).symlink_to((artifact.root / ENGINES).resolve())
            aside.rename(kept)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            if not kept.is_dir():  # else another worker was first
                raise

    def _copy_named(self, name: str) -> Path | None:
        digest = self._read(name)
        path = self._folder / digest
        return path if digest and path.is_dir() else None

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _write(self, name: str, text: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self._aside()
        aside.write_text(text, encoding="utf-8")
        aside.replace(self._folder / name)

    def _aside(self) -> Path:
        return self._folder / f".{token_hex(4)}.partial"


def copies_of(settings: Settings) -> ArtifactCopy | None:
    """The copies of a service; None where it keeps none."""
    return ArtifactCopy(Path(settings.control) / "kept") if settings.control else None


def _reason(error: OSError) -> str:
    """In the system's words, which `shutil` puts into a list of its own."""
    if isinstance(error, shutil.Error):
        text = str(error.args[0][-1][-1])  # [Errno 28] No space left on device: '/a' -> '/b'
        return text.partition("] ")[2].partition(":")[0]
    return error.strerror or type(error).__name__


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:  # another worker dropped it
        return 0.0

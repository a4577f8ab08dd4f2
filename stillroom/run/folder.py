"""The run folder: stage folders, published whole, under a lock, and run.json over all of them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve.contract.digest import canonical_json
from serve.contract.errors import ArtifactError, RunError
from serve.contract.files import fsync_folder, fsync_path, write_atomic
from serve.contract.manifest import RUNTIME, damaged_files, read_manifest
from serve.contract.manifest import write_manifest as _write_manifest

__all__ = ["NOT_BUILT", "OVERRIDES", "RunFolder"]

NOT_BUILT = "not built yet"

RECORD = "run.json"
RECIPE = "recipe.toml"
KEY = ".key"
LOCK = ".lock"
OVERRIDES = "overrides.json"  # of a stage whose recipe is not the run's alone
TRIES, PAUSE_S = 5, 0.1  # at the lock: `status` holds it for a moment


class RunFolder:
    """Where one run lives.

    Args:
        path: the folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, name: str) -> Path:
        """Folder of a published stage."""
        return self.path / name

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe of the run."""
        return self.path / RECIPE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            RunError: another process works on it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("a+")
        except OSError as error:
            raise RunError(
                f"Nothing can be written to {self.path} ({error.strerror}).",
                "Choose another folder with --run.",
            ) from error
        with lock as file:
            for left in reversed(range(TRIES)):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if left == 0:
                        raise RunError(
                            f"Another stillroom is working on {self.path}.",
                            "Wait for it, or choose another folder with --run.",
                        ) from None
                    time.sleep(PAUSE_S)
            file.truncate(0)
            file.write(f"{os.getpid()}")
            file.flush()
            yield

    def worker(self) -> int | None:
        """The process that works on this run now; None without one, 0 where it is not named."""
        try:
            with (self.path / LOCK).open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    said = file.read()
                    return int(said) if said.isdecimal() else 0
        except OSError:  # no lock, or none that may be read
            pass
        return None

    def photos_or(self, placeholder: str) -> str:
        """The images that the run was made of, for a command to copy."""
        try:
            return str(self.record().get("photos", placeholder))
        except RunError:
            return placeholder

    def record(self) -> dict[str, Any]:
        """run.json; empty where there is none.

        Returns:
            At least `photos` and `inputs`, text, and `chain`, a list with stage and digest of each.

        Raises:
            RunError: it cannot be read, or is not a record of a run.
        """
        try:
            value: dict[str, Any] = json.loads((self.path / RECORD).read_bytes())
            if not _is_record(value):
                raise ValueError("not the record of a run")
        except FileNotFoundError:
            return {}
        except NotADirectoryError:
            raise RunError(
                f"{self.path} is a file, not a run folder.", "Choose a folder with --run."
            ) from None
        except ValueError as error:
            raise RunError(
                f"{self.path / RECORD} is damaged.", "Remove it and run the same command again."
            ) from error
        return value

    def write_record(self, value: dict[str, Any]) -> None:
        """Replace run.json."""
        write_atomic(self.path / RECORD, canonical_json(value))

    def write_recipe(self, text: str) -> None:
        """Replace recipe.toml."""
        write_atomic(self.recipe_path, text.encode())

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The manifest of a published stage; None where there is none that can be read."""
        try:
            return read_manifest(self.stage(stage))
        except ArtifactError:
            return None

    def problem(self, stage: str, key: str | None = None) -> str | None:
        """Why a stage must be built (again); None when it is done.

        Args:
            stage: folder name.
            key: what its manifest must say; not checked when None.
        """
        folder = self.stage(stage)
        if not folder.exists():
            return NOT_BUILT
        try:
            manifest = read_manifest(folder)
        except ArtifactError as error:
            return f"damaged: {error.message.rstrip('.')}"
        if damaged := damaged_files(folder, manifest):
            return f"damaged: {'; '.join(damaged)}"
        if key is not None and manifest.get("key") != key:
            return "its inputs or options changed"
        return None

    def open_work(self, stage: str, key: str, *, resumable: bool) -> Path:
        """The hidden folder in which a stage is built.

        What an interrupted build of the same key left there is kept where the stage can resume.
        """
        work = self._work(stage)
        unfinished = work / KEY
        if not (resumable and unfinished.is_file() and unfinished.read_text() == key):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
        unfinished.write_text(key)  # also of one that goes on: the newest is the one at work
        return work

    def unfinished(self, stage: str) -> tuple[str, float] | None:
        """Key of what an interrupted or running build left, and when it began; None for none."""
        path = self._work(stage) / KEY
        try:
            return path.read_text(), path.stat().st_mtime
        except OSError:
            return None

    def step_reached(self, stage: str) -> int | None:
        """The newest saved step of an unfinished training; None where nothing was saved."""
        steps = [path.name.rpartition("-")[2] for path in self._work(stage).rglob(".state-*")]
        return max((int(step) for step in steps if step.isdecimal()), default=None)

    def overrides(self, stage: str) -> tuple[str, ...]:
        """What a stage was told besides the run's recipe: as published, else as begun."""
        for folder in (self.stage(stage), self._work(stage)):
            if folder.is_dir():
                try:
                    return tuple(map(str, json.loads((folder / OVERRIDES).read_bytes())))
                except (OSError, ValueError):
                    return ()
        return ()

    def publish(self, stage: str, fields: dict[str, Any], runtime: dict[str, Any]) -> None:
        """Give a finished stage its manifest and its name, in that order, atomically."""
        work, final, old = self._work(stage), self.stage(stage), self._old(stage)
        (work / RUNTIME).write_bytes(canonical_json(runtime))
        _write_manifest(work, fields)
        fsync_folder(work)
        shutil.rmtree(old, ignore_errors=True)
        if final.exists():
            final.rename(old)
        work.rename(final)
        fsync_path(self.path)
        shutil.rmtree(old, ignore_errors=True)
        for hidden in final.glob(".*"):
            shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()

    def keep_failed(self, stage: str) -> Path:
        """Move an unpublished stage aside, as evidence of why it failed."""
        failed = self.path / f"failed-{stage}"
        shutil.rmtree(failed, ignore_errors=True)
        self._work(stage).rename(failed)
        return failed

    def _work(self, stage: str) -> Path:
        return self.path / f".{stage}.work"

    def _old(self, stage: str) -> Path:
        return self.path / f".{stage}.old"


def _is_record(value: Any) -> bool:
    return (
        _has(value, "photos", "inputs", "chain")
        and isinstance(value["photos"], str)
        and isinstance(value["inputs"], str)
        and isinstance(value["chain"], list)
        and all(_has(link, "stage", "digest") for link in value["chain"])
    )


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)

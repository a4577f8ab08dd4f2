"""EngineCache: TensorRT plans below `engines/`, none of which is loaded on trust.

    engines/
      fp16-3f2a90c1b7de4410.plan         the plan
      fp16-3f2a90c1b7de4410.plan.json    its entry: key, sha256, inputs, outputs, and a digest
      timing-91c77e915a85be11.cache      what TensorRT measured on this GPU, with such an entry too
      .lock                              held while one process builds

A plan is executable code, so it is deserialised only if its entry has the key of this machine and
the sha256 of the very bytes that were read. An entry is written after its file, and both aside,
fsynced and renamed: a build that is killed leaves a plan without an entry, which is a miss.
Whoever may write below `engines/` may run code in the server: keep it as the model's own folder.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serve.contract.digest import canonical_json, digest_of_json, sha256_of_bytes
from serve.contract.errors import EngineError
from serve.contract.files import write_atomic
from serve.contract.manifest import ENGINES
from serve.engines.build import BuiltEngine
from serve.engines.key import EngineKey

__all__ = ["FOLDER", "CachedEngine", "EngineCache"]

FOLDER = ENGINES
BUILD_HERE = "Build it on this machine: stillroom export RUN --tensorrt"

Build = Callable[[bytes], BuiltEngine]


@dataclass(frozen=True)
class CachedEngine:
    """A plan that may be deserialised.

    Args:
        key: what it is valid for.
        plan: its bytes.
        origin: "cache", or "built" by this process.
        note: why it was built, and why it could not be kept; empty for a hit.
    """

    key: EngineKey
    plan: bytes
    origin: str
    note: str = ""

    @property
    def sha256(self) -> str:
        """Hex sha256 of the plan."""
        return sha256_of_bytes(self.plan)


class EngineCache:
    """The plans of one artifact.

    Args:
        folder: `engines/` below the artifact; made when the first plan is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: EngineKey) -> CachedEngine:
        """A plan that was kept for this key.

        Raises:
            EngineError: there is none, or it must not be loaded: says which.
        """
        data = self._read(key.file_name, asdict(key))
        if data is None:
            others = self._others(key)
            has = f", only for {'; '.join(others)}" if others else ""
            raise EngineError(f"{FOLDER}/ holds no plan for {_words(key)}{has}.", BUILD_HERE)
        return CachedEngine(key, data, "cache")

    def obtain(self, key: EngineKey, build: Build) -> CachedEngine:
        """The kept plan, or else a new one, kept where that can be done.

        One process builds at a time: another that wants the same plan waits, and finds it.

        Args:
            key: what the plan must be valid for.
            build: takes a timing cache (empty where none is kept) and gives a new engine.

        Raises:
            EngineError: no kept plan may be loaded, and `build` raised it.
        """
        with suppress(EngineError):
            return self.load(key)
        with self._locked():
            try:
                return self.load(key)  # another process built it while this one waited
            except EngineError as error:
                return self._build(key, build, error.message)

    def rebuild(self, key: EngineKey, build: Build, why: str) -> CachedEngine:
        """A new plan in place of one that TensorRT refused.

        Raises:
            EngineError: `build` raised it.
        """
        with self._locked():
            return self._build(key, build, why)

    def drop(self, key: EngineKey) -> None:
        """Forget a plan; whatever cannot be removed stays."""
        path = self._folder / key.file_name
        with self._locked(), suppress(OSError):
            _entry_of(path).unlink(missing_ok=True)  # first: without it the plan is a miss
            path.unlink(missing_ok=True)

    def keep(self, key: EngineKey, built: BuiltEngine) -> str:
        """Write a plan and its entry.

        Returns:
            Empty, or why it could not be kept (rights, space): no reason to stop a server.
        """
        with self._locked():
            return self._keep(key, built)

    def _keep(self, key: EngineKey, built: BuiltEngine) -> str:
        facts = {
            "inputs": [asdict(tensor) for tensor in built.inputs],
            "outputs": [asdict(tensor) for tensor in built.outputs],
        }
        try:
            self._write(key.file_name, built.plan, asdict(key), facts)
            if built.timing_cache:
                timing = _timing_key(key)
                self._write(_timing_name(timing), built.timing_cache, timing, {})
        except OSError as error:
            return f"the plan is not kept: {error.strerror or type(error).__name__}"
        return ""

    def _build(self, key: EngineKey, build: Build, why: str) -> CachedEngine:
        timing = _timing_key(key)
        try:
            measured = self._read(_timing_name(timing), timing) or b""
        except EngineError:
            measured = b""
        try:
            built = build(measured)
        except EngineError as error:
            raise EngineError(f"{why} {error.message}", error.next_step) from error
        notes = (why.rstrip("."), self._keep(key, built))
        return CachedEngine(key, built.plan, "built", "; ".join(note for note in notes if note))

    def _read(self, name: str, key: Mapping[str, Any]) -> bytes | None:
        """A file whose entry vouches for it; None where file or entry is missing.

        Raises:
            EngineError: the entry is damaged or of another key, or the bytes are others.
        """
        path, shown = self._folder / name, f"{FOLDER}/{name}"  # a server shows these messages
        try:
            text = _entry_of(path).read_bytes()
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineError(f"{shown} cannot be read: {error.strerror}.", BUILD_HERE) from error
        entry = _parsed(text)
        if entry is None:
            raise EngineError(f"{shown}.json is damaged.", BUILD_HERE)
        if entry["key"] != dict(key):
            raise EngineError(f"{shown} is for {_difference(entry['key'], key)}.", BUILD_HERE)
        if entry["sha256"] != (actual := sha256_of_bytes(data)):
            raise EngineError(
                f"{shown} has sha256 {actual[:12]}, its entry says {str(entry['sha256'])[:12]}: "
                "it is not loaded.",
                BUILD_HERE,
            )
        return data

    def _others(self, key: EngineKey) -> list[str]:
        """What else of this model is kept, for a message."""
        found = set()
        with suppress(OSError):
            for path in self._folder.glob("*.plan.json"):
                entry = _parsed(path.read_bytes())
                if entry and entry["key"].get("onnx_sha256") == key.onnx_sha256:
                    with suppress(TypeError, ValueError):
                        found.add(_words(EngineKey(**entry["key"])))
        return sorted(found)[:3]

    def _write(
        self, name: str, data: bytes, key: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        body = {"key": dict(key), "sha256": sha256_of_bytes(data), "bytes": len(data), **facts}
        entry = canonical_json({**body, "digest": digest_of_json(body)})
        path = self._folder / name
        write_atomic(path, data, shared=True)
        write_atomic(_entry_of(path), entry, shared=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock, where it can be had; without it builds are only slower."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / ".lock").open("ab")
        except OSError:
            yield
            return
        with file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)  # the system lets go of it when a process dies
                self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove what killed builds left; only while no other process can be writing."""
        for path in self._folder.glob(".*.partial"):
            with suppress(OSError):
                path.unlink()


def _entry_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _parsed(text: bytes) -> dict[str, Any] | None:
    """An entry whose digest is that of its content; None for anything else."""
    try:
        entry = json.loads(text)
        body = {name: value for name, value in entry.items() if name != "digest"}
        good = canonical_json(entry) == text and entry["digest"] == digest_of_json(body)
        typed = isinstance(entry["key"], dict) and isinstance(entry["sha256"], str)
        return entry if good and typed else None
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


def _timing_key(key: EngineKey) -> dict[str, Any]:
    return {
        name: getattr(key, name) for name in ("tensorrt_version", "gpu_name", "compute_capability")
    }


def _timing_name(timing: Mapping[str, Any]) -> str:
    return f"timing-{digest_of_json(dict(timing))[:16]}.cache"


def _words(key: EngineKey) -> str:
    gpu = f"{key.gpu_name} ({key.compute_capability})"
    batches = f"batches {key.min_batch} to {key.max_batch}"
    return f"{gpu}, {key.tensorrt_version}, {key.precision}, {batches}"


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = sorted(name for name in wanted if found.get(name) != wanted[name])
    return ", ".join(f"{name} {found.get(name)!r}, not {wanted[name]!r}" for name in names[:3])

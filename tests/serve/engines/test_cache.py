from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from serve.contract.digest import canonical_json, digest_of_json, sha256_of_bytes
from serve.contract.errors import EngineError
from serve.engines import cache as engine_cache
from serve.engines.build import BuiltEngine, TensorFacts
from serve.engines.cache import EngineCache
from serve.engines.key import EngineKey

KEY = EngineKey("a" * 64, "tensorrt 10.16.0", "NVIDIA L4", "8.9", "fp16", 1, 8, 8)
OTHER = replace(KEY, gpu_name="NVIDIA H100", compute_capability="9.0")
INPUT = TensorFacts("image", "UINT8", (-1, 32, 32, 3))
OUTPUT = TensorFacts("logits", "FLOAT", (-1, 4))


def built(plan: bytes = b"plan", timing: bytes = b"") -> BuiltEngine:
    return BuiltEngine(plan, (INPUT,), (OUTPUT,), timing)


class Builder:
    """Counts builds, and keeps the timing caches that they were given."""

    def __init__(self, plan: bytes = b"plan", timing: bytes = b"") -> None:
        self.engine = built(plan, timing)
        self.given: list[bytes] = []

    def __call__(self, timing_cache: bytes) -> BuiltEngine:
        self.given.append(timing_cache)
        return self.engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "engines"


@pytest.fixture
def cache(folder: Path) -> EngineCache:
    return EngineCache(folder)


def test_a_miss_builds_and_the_next_is_a_hit(cache: EngineCache, folder: Path) -> None:
    builder = Builder()
    first, second = (cache.obtain(KEY, builder) for _ in range(2))
    assert (first.origin, second.origin) == ("built", "cache")
    assert first.plan == second.plan == b"plan"
    assert "holds no plan for NVIDIA L4 (8.9), tensorrt 10.16.0, fp16" in first.note
    assert second.note == ""
    assert len(builder.given) == 1
    assert (folder / KEY.file_name).read_bytes() == b"plan"


def test_the_entry_is_what_the_docs_say(cache: EngineCache, folder: Path) -> None:
    cache.keep(KEY, built())
    entry = json.loads((folder / f"{KEY.file_name}.json").read_bytes())
    digest = entry.pop("digest")
    assert digest == digest_of_json(entry)
    assert entry == {
        "bytes": 4,
        "inputs": [{"dtype": "UINT8", "name": "image", "shape": [-1, 32, 32, 3]}],
        "key": asdict(KEY),
        "outputs": [{"dtype": "FLOAT", "name": "logits", "shape": [-1, 4]}],
        "sha256": sha256_of_bytes(b"plan"),
    }
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        KEY.file_name,
        f"{KEY.file_name}.json",
    ]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, Path.unlink])
@pytest.mark.parametrize("part", ["plan", "entry"])
def test_damage_is_never_loaded_and_is_repaired(
    cache: EngineCache, folder: Path, part: str, damage
) -> None:
    cache.keep(KEY, built())
    damage(folder / (KEY.file_name + (".json" if part == "entry" else "")))
    with pytest.raises(EngineError, match="stillroom export RUN --tensorrt"):
        cache.load(KEY)
    builder = Builder(b"new")
    assert cache.obtain(KEY, builder).plan == b"new"
    assert cache.load(KEY).plan == b"new"
    assert len(builder.given) == 1


@pytest.mark.parametrize("text", [b"[]", b"{}", b"null", b"\xff", b'{"digest": 1}', b"1"])
def test_an_entry_that_is_none_is_refused(cache: EngineCache, folder: Path, text: bytes) -> None:
    cache.keep(KEY, built())
    (folder / f"{KEY.file_name}.json").write_bytes(text)
    with pytest.raises(EngineError, match="is damaged"):
        cache.load(KEY)


def test_a_plan_without_an_entry_is_a_miss(cache: EngineCache, folder: Path) -> None:
    """What a process leaves that is killed between the two."""
    folder.mkdir()
    (folder / KEY.file_name).write_bytes(b"hostile")
    with pytest.raises(EngineError, match="holds no plan"):
        cache.load(KEY)
    assert cache.obtain(KEY, Builder()).plan == b"plan"


def test_a_plan_of_another_gpu_under_this_name_is_refused(cache: EngineCache, folder: Path) -> None:
    cache.keep(OTHER, built(b"foreign"))
    for end in ("", ".json"):
        (folder / f"{OTHER.file_name}{end}").rename(folder / f"{KEY.file_name}{end}")
    with pytest.raises(EngineError, match=r"is for compute_capability '9\.0', not '8\.9', gpu_"):
        cache.load(KEY)
    assert cache.obtain(KEY, Builder()).plan == b"plan"


def test_what_else_is_kept_is_named(cache: EngineCache) -> None:
    cache.keep(OTHER, built())
    cache.keep(replace(OTHER, onnx_sha256="b" * 64, gpu_name="of another model"), built())
    with pytest.raises(EngineError, match=r"only for NVIDIA H100 \(9\.0\)") as caught:
        cache.load(KEY)
    assert "another model" not in str(caught.value)


def test_an_entry_whose_digest_was_made_to_fit_still_names_the_bytes(
    cache: EngineCache, folder: Path
) -> None:
    cache.keep(KEY, built())
    path = folder / f"{KEY.file_name}.json"
    entry = json.loads(path.read_bytes())
    body = {k: v for k, v in entry.items() if k != "digest"} | {"sha256": "0" * 64}
    path.write_bytes(canonical_json({**body, "digest": digest_of_json(body)}))
    with pytest.raises(EngineError, match="its entry says 000000000000: it is not loaded"):
        cache.load(KEY)


def test_without_a_builder_the_reason_has_both_halves(cache: EngineCache) -> None:
    def build(timing_cache: bytes) -> BuiltEngine:
        raise EngineError("TensorRT has no parser.", "Do this.")

    with pytest.raises(EngineError, match=r"holds no plan .*TensorRT has no parser\. Do this\."):
        cache.obtain(KEY, build)


def test_the_timing_cache_is_kept_for_the_gpu(cache: EngineCache, folder: Path) -> None:
    builder = Builder(timing=b"measured")
    cache.obtain(KEY, builder)
    cache.obtain(replace(KEY, max_batch=16), builder)
    cache.obtain(OTHER, builder)
    assert builder.given == [b"", b"measured", b""]
    (first, *_) = sorted(folder.glob("timing-*.cache"))
    for path in folder.glob("timing-*.cache"):
        path.write_bytes(b"hostile")
    cache.obtain(replace(KEY, max_batch=32), builder)
    assert builder.given[-1] == b""
    assert first.exists()


def test_a_full_disk_leaves_no_half_file(
    cache: EngineCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    engine = cache.obtain(KEY, Builder())
    assert engine.plan == b"plan"
    assert "the plan is not kept: No space left on device" in engine.note
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_written_costs_only_the_next_build(tmp_path: Path) -> None:
    (tmp_path / "engines").write_bytes(b"")  # rights would not stop root, as whom tests may run
    cache = EngineCache(tmp_path / "engines")
    engine = cache.obtain(KEY, Builder())
    assert engine.plan == b"plan"
    assert "is not kept" in engine.note


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_missing_rights_cost_only_the_next_build(cache: EngineCache, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o500)
    assert "Permission denied" in cache.obtain(KEY, Builder()).note


def test_what_killed_builds_left_is_swept(cache: EngineCache, folder: Path) -> None:
    folder.mkdir()
    (folder / f".{KEY.file_name}.12345678.partial").write_bytes(b"half")
    cache.obtain(KEY, Builder())
    assert not list(folder.glob(".*.partial"))


def test_who_waits_for_a_builder_finds_its_plan(cache: EngineCache, folder: Path) -> None:
    folder.mkdir()
    builder, results = Builder(b"second"), []
    waiting = threading.Thread(target=lambda: results.append(cache.obtain(KEY, builder)))
    with (folder / ".lock").open("ab") as lock:  # the process that builds
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        cache._keep(KEY, built(b"first"))
    waiting.join(10)
    assert results[0].plan == b"first"
    assert not builder.given


OBTAIN = """
import sys
from pathlib import Path
from serve.engines.build import BuiltEngine
from serve.engines.cache import EngineCache
from serve.engines.key import EngineKey

key = EngineKey("a" * 64, "tensorrt 10.16.0", "NVIDIA L4", "8.9", "fp16", 1, 8, 8)
plan = sys.argv[2].encode() * 100_000
print("ready", flush=True)
engine = EngineCache(Path(sys.argv[1])).obtain(key, lambda timing: BuiltEngine(plan, (), ()))
print(engine.origin, engine.plan[:1].decode(), len(engine.plan))
"""


def test_processes_at_once_build_one_plan(cache: EngineCache, folder: Path) -> None:
    folder.mkdir()
    with (folder / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", OBTAIN, str(folder), plan],
                stdout=subprocess.PIPE,
                text=True,
            )
            for plan in "ABC"
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(origin for origin, *_ in answers) == ["built", "cache", "cache"]
    (plan,) = {tuple(rest) for _, *rest in answers}
    assert plan == (cache.load(KEY).plan[:1].decode(), "100000")


def test_writers_without_a_lock_leave_one_whole_plan(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without locks. A reader sees a whole plan or a miss, never a mixture."""

    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(engine_cache.fcntl, "flock", no_locks)
    plans = {bytes([65 + i]) * 200_000 for i in range(4)}
    threads = [
        threading.Thread(target=lambda p=plan: [cache.keep(KEY, built(p)) for _ in range(5)])
        for plan in plans
    ]
    for thread in threads:
        thread.start()
    found = set()
    while any(thread.is_alive() for thread in threads):
        with suppress(EngineError):
            found.add(cache.load(KEY).plan)
    assert found <= plans
    for thread in threads:
        thread.join()
    assert cache.obtain(KEY, Builder(b"again")).plan in {*plans, b"again"}

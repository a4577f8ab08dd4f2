"""Limits of memory on made trees, as a container, a service manager and an old kernel show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.model.memory import LEAST_BYTES, memory_share
from serve.process.cgroups import memory_limit, oom_kills
from serve.settings import Settings

MIB = 2**20
V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V1_CPU = "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"


def machine(root: Path, groups: str, mounts: str, files: dict[str, str], total_mib=8192) -> Path:
    written = {
        "proc/self/cgroup": groups,
        "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts,
        "proc/meminfo": f"MemTotal:       {total_mib * 1024} kB\nMemFree: 1 kB\n",
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in written.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


LIMITS = {
    "v2, in a container's namespace": (
        "0::/\n", V2.format(root="/"), {"memory.max": f"{512 * MIB}\n"}, 512),
    "v2, own group, the parent has more": (
        "0::/system.slice/stillroom.service\n", V2.format(root="/"),
        {"system.slice/memory.max": f"{900 * MIB}\n",
         "system.slice/stillroom.service/memory.max": f"{300 * MIB}\n"}, 300),
    "v2, the parent has less": (
        "0::/pod/container\n", V2.format(root="/"),
        {"pod/memory.max": f"{256 * MIB}\n", "pod/container/memory.max": "max\n"}, 256),
    "v2, throttled before it is killed": (
        "0::/a\n", V2.format(root="/"),
        {"a/memory.max": f"{800 * MIB}\n", "a/memory.high": f"{400 * MIB}\n"}, 400),
    "v2, the container's group is the root of the mount": (
        "0::/docker/abc\n", V2.format(root="/docker/abc"), {"memory.max": f"{128 * MIB}\n"}, 128),
    "v2, outside its namespace": (
        "0::/../other\n", V2.format(root="/"), {"memory.max": f"{640 * MIB}\n"}, 640),
    "v2, no limit": ("0::/a\n", V2.format(root="/"), {"a/memory.max": "max\n"}, 8192),
    "v1": (
        "9:cpu:/x\n4:memory:/x/y\n", V1_CPU + V1.format(root="/"),
        {"memory/memory.limit_in_bytes": "9223372036854771712\n",
         "memory/x/memory.limit_in_bytes": f"{700 * MIB}\n",
         "memory/x/y/memory.limit_in_bytes": f"{999 * MIB}\n",
         "cpu/x/memory.limit_in_bytes": "1\n"}, 700),
    "v1, a container that sees its own group alone": (
        "4:memory:/docker/abc\n", V1.format(root="/docker/abc"),
        {"memory/memory.limit_in_bytes": f"{200 * MIB}\n"}, 200),
    "v1 and v2 side by side": (
        "4:memory:/a\n0::/a\n", V1.format(root="/") + V2.format(root="/"),
        {"memory/a/memory.limit_in_bytes": f"{512 * MIB}\n",
         "a/memory.max": f"{511 * MIB}\n"}, 511),
    "no groups": ("", "", {}, 8192),
    "damaged": ("nonsense\n0::/a\n", "x\n" + V2.format(root="/"), {"a/memory.max": "?\n"}, 8192),
}  # fmt: skip


@pytest.mark.parametrize(("groups", "mounts", "files", "mib"), LIMITS.values(), ids=LIMITS)
def test_the_smallest_limit_of_all_groups_holds(tmp_path, groups, mounts, files, mib) -> None:
    assert memory_limit(machine(tmp_path, groups, mounts, files)) == mib * MIB


def test_the_machine_may_have_less_than_the_group(tmp_path: Path) -> None:
    files = {"memory.max": f"{4096 * MIB}\n"}
    assert memory_limit(machine(tmp_path, "0::/\n", V2.format(root="/"), files, 1024)) == 2**30


def test_nothing_tells(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


@pytest.mark.parametrize(
    ("groups", "mounts", "file", "text"),
    [
        ("0::/a\n", V2.format(root="/"), "a/memory.events", "low 0\noom 9\noom_kill 3\n"),
        ("4:memory:/a\n", V1.format(root="/"), "memory/a/memory.oom_control",
         "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
    ],
)  # fmt: skip
def test_kills_for_want_of_memory_are_counted(tmp_path, groups, mounts, file, text) -> None:
    assert oom_kills(machine(tmp_path, groups, mounts, {file: text})) == 3
    (tmp_path / "sys/fs/cgroup" / file).unlink()
    assert oom_kills(tmp_path) == 0


def shared(limit_mib: int | None, used_mib: int = 150, **settings: int):
    limit = None if limit_mib is None else limit_mib * MIB
    return memory_share(Settings(Path("x"), **settings), limit=limit, used=used_mib * MIB)


def test_without_a_limit_each_thread_may_decode_the_largest_image() -> None:
    share = shared(None)
    assert share.megapixels == 50
    assert share.decode_bytes == 2 * share.image_bytes
    assert share.held_bytes == 256 * MIB


@pytest.mark.parametrize("limit_mib", [256, 384, 512, 1024, 4096])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_what_all_workers_may_take_fits_in_the_limit(limit_mib: int, workers: int) -> None:
    share = shared(limit_mib, workers=workers)
    together = workers * (150 * MIB + share.decode_bytes + share.held_bytes)
    least = workers * (150 * MIB + 2 * LEAST_BYTES)
    assert together <= max(0.9 * limit_mib * MIB, least)
    assert share.image_bytes <= share.decode_bytes
    assert share.megapixels >= 4


def test_a_container_of_1_gib_answers_the_largest_image() -> None:
    assert shared(1024).megapixels == 50
    assert shared(512).megapixels < 50
    assert shared(1024, max_megapixels=120).megapixels == pytest.approx(112, abs=8)

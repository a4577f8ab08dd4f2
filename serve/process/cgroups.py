"""What memory this process may use, and whether the kernel has killed for want of it: cgroups.

Both versions are read, for the group of this process and every group above it: the smallest limit
holds. A container often sees its own group as the root of a mount, a process of a service manager
sees the whole path.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

__all__ = ["memory_limit", "oom_kills"]

ROOT = Path("/")
NONE = 2**60  # version 1 writes nearly 2**63 where nothing limits it
LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes")
COUNTS = ("memory.events", "memory.oom_control")


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that this process and those of its groups may use: by groups, or the machine's memory.

    Args:
        root: above proc/ and the mounts; another one in tests.

    Returns:
        None where nothing tells.
    """
    found = [
        value
        for group in _groups(root)
        for name in LIMITS
        if (value := _number(group / name)) is not None
    ]
    with suppress(OSError, ValueError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) for line in lines if "MemTotal" in line) * 1024)
    return min(found, default=None)


def oom_kills(root: Path = ROOT) -> int:
    """Processes of this group that the kernel has killed because memory ran out, so far."""
    for group in _groups(root):
        for name in COUNTS:
            with suppress(OSError, ValueError):
                for line in (group / name).read_text().splitlines():
                    key, _, value = line.partition(" ")
                    if key == "oom_kill":
                        return int(value)
    return 0


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the memory groups of this process, from its own upwards."""
    for own, mounted_at, point in _places(root):
        below = PurePosixPath(own)
        inside = below.relative_to(mounted_at) if below.is_relative_to(mounted_at) else None
        folder = root / point.lstrip("/")
        if inside is not None and ".." not in inside.parts and (folder / inside).is_dir():
            for depth in range(len(inside.parts), 0, -1):
                yield folder.joinpath(*inside.parts[:depth])
        yield folder


def _places(root: Path) -> Iterator[tuple[str, str, str]]:
    """Of each hierarchy with memory: own path, path that is mounted, and where."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    own: dict[str, str] = {}
    for line in groups:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            own["cgroup2"] = path
        elif "memory" in controllers.split(","):
            own["cgroup"] = path
    for line in mounts:
        left, _, right = line.partition(" - ")
        fields, (kind, *options) = left.split(), right.split() or [""]
        is_memory = kind == "cgroup2" or "memory" in (options or [""])[-1].split(",")
        if kind in own and is_memory and len(fields) > 4:
            yield own[kind], fields[3], fields[4]


def _number(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        value = int(file.read_text())
        return value if value < NONE else None
    return None

"""Which cores the generators run on and which the service, where both are on one machine.

Two programs that share a core take turns, so each adds its own time to the other's latency.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CoreSplit", "on_cores", "pin_tree", "process_tree", "split_cores"]


@dataclass(frozen=True, slots=True)
class CoreSplit:
    """Disjoint cores; both empty where there are too few to part.

    Attributes:
        generators: one for each generator, the highest numbers.
        service: the rest.
    """

    generators: tuple[int, ...]
    service: tuple[int, ...]


def split_cores(workers: int = 1, cores: Iterable[int] | None = None) -> CoreSplit:
    """Give each generator a core and leave at least one, and at least half of them, to the service.

    Args:
        workers: how many generators there are; they share cores if there are more of them.
        cores: what there is; those this process may use, when None.
    """
    usable = sorted(os.sched_getaffinity(0) if cores is None else cores)
    generators = min(workers, len(usable) // 2)
    if not generators:
        return CoreSplit((), ())
    return CoreSplit(tuple(usable[-generators:]), tuple(usable[:-generators]))


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """Run this process on these cores only while the block lasts; on all of its own for none."""
    before, wanted = os.sched_getaffinity(0), set(cores)
    os.sched_setaffinity(0, wanted or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_tree(pid: int) -> list[int]:
    """A process and all of its descendants, as /proc knows them; empty if it is gone."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        with suppress(OSError):
            for task in Path(f"/proc/{current}/task").iterdir():
                queue += map(int, (task / "children").read_text().split())
            found.append(current)
    return found


def pin_tree(pid: int, cores: Iterable[int]) -> int:
    """Let every thread of a process tree run on these cores only.

    Threads and processes that start later inherit it from those that started them.

    Returns:
        How many threads were pinned; 0 if the process is gone or is another user's.
    """
    pinned = 0
    for process in process_tree(pid):
        with suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                os.sched_setaffinity(int(task.name), set(cores))
                pinned += 1
    return pinned

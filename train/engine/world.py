"""Where this process stands among those that train together; reads torchrun's environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from serve.contract.errors import UsageError

__all__ = [
    "World",
    "current_world",
    "shard_of_rank",
    "single_process",
    "use_world",
    "world_from_env",
]

T = TypeVar("T")
NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
START = "Start it with: stillroom train PHOTOS --nproc 2, or torchrun (docs/scale.md)."


@dataclass(frozen=True)
class World:
    """A process among `world_size` processes.

    Args:
        rank: from 0; rank 0 alone writes files and shows progress.
        world_size: number of processes, on all machines together.
        local_rank: from 0, on this machine; the number of its GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0


_here = World()


def current_world() -> World:
    """The place of this process; alone in the world unless `use_world` says otherwise."""
    return _here


@contextmanager
def use_world(place: World) -> Iterator[None]:
    """Take a place while the block runs."""
    global _here  # a property of the process, as its environment is
    before, _here = _here, place
    try:
        yield
    finally:
        _here = before


@contextmanager
def single_process() -> Iterator[None]:
    """Do something without the other ranks: nothing is exchanged while the block runs."""
    with use_world(replace(_here, world_size=1)):
        yield


def shard_of_rank(items: Sequence[T]) -> list[T]:
    """This rank's part of a list: every world-th from its rank on; nothing twice, nothing left."""
    return list(items[_here.rank % _here.world_size :: _here.world_size])


def world_from_env(env: Mapping[str, str]) -> World:
    """Read RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them.

    Returns:
        A world of one where WORLD_SIZE is missing or 1.

    Raises:
        UsageError: a variable is missing or no possible number.
    """
    world = _number(env, "WORLD_SIZE", "1")
    if world == 1:
        return World()
    if missing := [name for name in NEEDED if name not in env]:
        raise UsageError(f"WORLD_SIZE is {world}, but {', '.join(missing)} is not set.", START)
    rank, local_rank = _number(env, "RANK", ""), _number(env, "LOCAL_RANK", "0")
    if not 0 <= rank < world or local_rank < 0:
        raise UsageError(
            f"RANK is {rank}, LOCAL_RANK {local_rank}: expected 0 to {world - 1}.", START
        )
    return World(rank, world, local_rank)


def _number(env: Mapping[str, str], name: str, default: str) -> int:
    text = env.get(name, default)
    if not text.isdigit() or (name == "WORLD_SIZE" and int(text) < 1):
        raise UsageError(f"{name} is {text!r}: expected a whole number.", START)
    return int(text)

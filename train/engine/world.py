"""World: rank and world size of this process, and what it exchanges with the other ranks.

`World` is a process alone: every collective gives back what it was given. A process group of
several ranks is `train.extras.distributed.process_group.ProcessGroup`, the same interface;
whoever starts one puts it in place with `use_world`, and the training asks `current_world()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from serve.contract.errors import StillroomError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from train.losses.objective import Objective, StepOutput

__all__ = [
    "Forward",
    "World",
    "current_world",
    "shard_of_rank",
    "single_process",
    "use_world",
    "world_from_env",
]

T = TypeVar("T")
E = TypeVar("E", bound=StillroomError)
NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
START = "Start it with: stillroom train PHOTOS --nproc 2, or torchrun (docs/scale.md)."


class Forward(Protocol):
    """Forward and loss of a part of a batch."""

    def __call__(self, images: Tensor, labels: Tensor, *, last: bool) -> StepOutput:
        """Score it; the backward of the last part averages the gradients over the ranks."""
        ...


@dataclass(frozen=True)
class World:
    """A process among `world_size` processes; on its own, each collective is the identity.

    Every method that exchanges something must be called by all ranks in the same order.

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

    def barrier(self) -> None:
        """Go on when all ranks are here."""

    def first_true_rank(self, flag: bool) -> int | None:
        """The lowest rank whose flag is true; None where no rank's is."""
        return self.rank if flag else None

    def each_any_true(self, *flags: bool) -> list[bool]:
        """Of each flag whether that of any rank is true, in one exchange."""
        return list(flags)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over the ranks."""
        return values

    def all_reduce_mean(self, values: dict[str, float]) -> dict[str, float]:
        """Mean over the ranks of figures with the same names."""
        return values

    def broadcast_object(self, rank: int, value: T) -> T:
        """The value of one rank, on all of them; waits for it as long as it takes."""
        return value

    def all_gather_object(self, value: T) -> list[T]:
        """The values of all ranks, on all of them."""
        return [value]

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give all ranks the buffers of rank 0, such as the statistics of its batch norms."""

    def gather_rows(self, rows: NDArray[np.float32], count: int) -> NDArray[np.float32] | None:
        """Put the rows of `shard_of_rank` back into their order.

        Args:
            rows: (n, K) of this rank.
            count: N of all ranks.

        Returns:
            (N, K) on rank 0; None on others.
        """
        return rows

    def build_forward(
        self, model: Any, objective: Objective, *, sync_bn: bool, prepare: Callable[[Any], Any]
    ) -> Forward:
        """What a training step calls; a backward leaves the mean gradient of all ranks.

        Args:
            model: frozen as it stays; on its device.
            objective: forward and loss.
            sync_bn: whether batch norms normalise with the statistics of all ranks together.
            prepare: what runs the model's weights, such as torch.compile of it.

        Raises:
            UsageError: sync_bn among ranks on CPUs.
        """
        runs = prepare(model)
        return lambda images, labels, *, last: objective(runs, images, labels)

    def peer_errors(self, doing: str) -> AbstractContextManager[None]:
        """Turn the many errors of a broken connection into one LostRank while the block runs."""
        return nullcontext()

    def check_batch_size(self, batch_size: int, key: str = "batch_size") -> None:
        """Refuse a batch (UsageError) that does not divide into equal shares."""

    def check_equal(self, value: object, what: str) -> None:
        """Refuse (UsageError) to go on where ranks start from different things."""

    def shared(self, error: E) -> E:
        """Mark an error that all ranks raise alike, so that it is said once."""
        return error

    def explain_together(
        self, explain: Callable[[], StillroomError], *, saw_it: Callable[[], bool]
    ) -> StillroomError:
        """The error that all ranks raise, explained by the lowest rank that saw its cause.

        Args:
            explain: called on that rank alone.
            saw_it: whether this rank saw it; not called by a process alone.
        """
        return explain()


_current = World()


def current_world() -> World:
    """The world of this process: one process alone, unless `use_world` says otherwise."""
    return _current


@contextmanager
def use_world(world: World) -> Iterator[None]:
    """Be part of a world while the block runs."""
    global _current  # a property of the process, as its environment is
    before, _current = _current, world
    try:
        yield
    finally:
        _current = before


@contextmanager
def single_process() -> Iterator[None]:
    """Do something without the other ranks: nothing is exchanged while the block runs."""
    with use_world(World(_current.rank, 1, _current.local_rank)):
        yield


def shard_of_rank(items: Sequence[T]) -> list[T]:
    """This rank's part of a list: every n-th of a world of n; nothing twice, nothing left."""
    return list(items[_current.rank % _current.world_size :: _current.world_size])


def world_from_env(env: Mapping[str, str]) -> World:
    """Read RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them.

    Returns:
        A world of one where WORLD_SIZE is missing or 1; else its size, without a process group.

    Raises:
        UsageError: a variable is missing or not a possible number.
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

"""Errors of several ranks: what all of them must refuse, or raise alike and say once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from serve.contract.errors import StillroomError, UsageError
from train.engine.world import current_world, single_process
from train.extras.distributed.collectives import (
    all_gather_object,
    broadcast_object,
    first_true_rank,
)

__all__ = [
    "check_batch_size",
    "check_equal",
    "explain_together",
    "is_shared",
    "refuse_together",
    "shared",
]

E = TypeVar("E", bound=StillroomError)

SHARED = "Every rank raises this; rank 0 says it."


def check_batch_size(batch_size: int, key: str = "batch_size") -> None:
    """Refuse a batch that does not divide into equal shares.

    Args:
        batch_size: of all ranks together.
        key: its name in the recipe.

    Raises:
        UsageError: names one that does.
    """
    world = current_world().world_size
    if batch_size % world:
        works = max(1, batch_size // world) * world
        raise UsageError(
            f"{key} = {batch_size} is the batch of all ranks together, and {world} ranks "
            "cannot share it equally.",
            f"Set {key}={works}.",
        )


def check_equal(value: object, what: str) -> None:
    """Refuse to go on where ranks start from different things.

    Raises:
        UsageError: on all ranks; names the values of rank 0 and of the first that differs.
    """
    values = all_gather_object(value)
    for rank, other in enumerate(values):
        if other != values[0]:
            raise shared(
                UsageError(
                    f"Rank {rank} sees {what} {other}, rank 0 {values[0]}.",
                    "Put the run folder where all machines see the same files.",
                )
            )


def refuse_together(problem: str, next_step: str) -> None:
    """Raise on all ranks what one of them has to say; an empty problem is none.

    Raises:
        UsageError: a rank has a problem.
    """
    for rank, said in enumerate(all_gather_object(problem)):
        if said:
            raise shared(UsageError(f"Rank {rank}: {said}", next_step))


def explain_together(
    explain: Callable[[], StillroomError], *, saw_it: Callable[[], bool]
) -> StillroomError:
    """The error that all ranks raise, explained by the lowest rank that saw its cause.

    Args:
        explain: called on that rank alone.
        saw_it: whether this rank saw it; not called in a world of one.
    """
    world = current_world()
    if world.world_size == 1:
        return explain()
    with single_process():
        mine = saw_it()
    rank = first_true_rank(mine) or 0
    words = ("", "")
    if rank == world.rank:
        with single_process():
            error = explain()
        words = (f"Rank {rank}: {error.message}", error.next_step)
    return shared(StillroomError(*broadcast_object(rank, words)))


def shared(error: E) -> E:
    """Mark an error that all ranks raise alike, so that it is said once."""
    if current_world().world_size > 1:
        error.add_note(SHARED)
    return error


def is_shared(error: BaseException) -> bool:
    """Whether all ranks raise this error alike."""
    return SHARED in getattr(error, "__notes__", ())

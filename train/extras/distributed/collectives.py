"""The process group, as the training sees it: a few questions to all ranks, none in a world of one.

Flags and figures travel over gloo on the CPU; gradients over NCCL where there are GPUs. Every
function that exchanges something must be called by all ranks in the same order.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from serve.contract.errors import LostRank, UsageError
from train.engine.world import World, current_world, use_world

__all__ = [
    "all_gather_object",
    "all_reduce_mean",
    "all_reduce_sum",
    "any_true",
    "barrier",
    "broadcast_buffers",
    "broadcast_object",
    "each_any_true",
    "first_true_rank",
    "gather_rows",
    "open_process_group",
    "peer_errors",
]

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)  # of one exchange; a rank that died is noticed at once
PATIENCE = timedelta(days=2)  # while rank 0 reads photographs, saves or predicts
BROKEN = ("gloo", "nccl", "connection", "timed out", "timeout", "broken pipe", "socket")
STRIDES = "Grad strides do not match"  # of sides of length 1, which costs nothing
AGAIN = "The rank that ended first says why. Run the same command again to go on."


@contextmanager
def open_process_group(world: World) -> Iterator[None]:
    """Join the process group of torchrun's environment while the block runs.

    Raises:
        UsageError: there are more ranks than GPUs on this machine.
        LostRank: the ranks do not meet in time.
    """
    if world.world_size == 1:
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        _take_gpu(world)
    with use_world(world):
        with peer_errors("meeting the other ranks"):
            warnings.filterwarnings("ignore", STRIDES)
            dist.init_process_group(backend, timeout=TIMEOUT, rank=world.rank)
            _open_patient_group()
        try:
            yield
        except BaseException:
            _leave_others_behind()
            raise
    dist.destroy_process_group()


def first_true_rank(flag: bool) -> int | None:
    """The lowest rank whose flag is true; None where no rank's is."""
    world = current_world()
    if world.world_size == 1:
        return world.rank if flag else None
    value = torch.tensor(world.world_size - world.rank if flag else 0)
    with peer_errors("agreeing"):
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return world.world_size - int(value) if value else None


def any_true(flag: bool) -> bool:
    """Whether the flag of any rank is true."""
    return first_true_rank(flag) is not None


def each_any_true(*flags: bool) -> list[bool]:
    """Of each flag whether that of any rank is true, in one exchange."""
    if current_world().world_size == 1:
        return list(flags)
    values = torch.tensor(flags, dtype=torch.int64)
    with peer_errors("agreeing"):
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum of a tensor over the ranks; the tensor itself in a world of one."""
    if current_world().world_size == 1:
        return values
    summed = values.clone()
    with peer_errors("adding up"):
        dist.all_reduce(summed)
    return summed


def all_reduce_mean(values: dict[str, float]) -> dict[str, float]:
    """Mean over the ranks of figures with the same names."""
    if current_world().world_size == 1 or not values:
        return values
    names = sorted(values)
    summed = all_reduce_sum(torch.tensor([values[name] for name in names], dtype=torch.float64))
    return dict(zip(names, (summed / current_world().world_size).tolist(), strict=True))


def broadcast_buffers(module: nn.Module) -> None:
    """Give all ranks the buffers of rank 0, such as the statistics of its batch norms."""
    if current_world().world_size == 1:
        return
    with peer_errors("sharing buffers"), torch.no_grad():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def gather_rows(rows: NDArray[np.float32], count: int) -> NDArray[np.float32] | None:
    """Put the rows of `train.engine.world.shard_of_rank` back into their order, on rank 0.

    The last share may be a row shorter; it travels with an empty row, which is cut off.

    Args:
        rows: (n, K) of this rank.
        count: N of all ranks.

    Returns:
        (N, K) on rank 0; None on others.
    """
    world = current_world()
    if world.world_size == 1:
        return rows
    width = torch.tensor(rows.shape[1])
    parts = None
    with peer_errors("gathering answers"):
        dist.all_reduce(width, dist.ReduceOp.MAX)  # a rank without rows does not know it
        padded = torch.zeros(-(-count // world.world_size), int(width))
        if len(rows):
            padded[: len(rows)] = torch.from_numpy(rows)
        if world.is_writer:
            parts = [torch.empty_like(padded) for _ in range(world.world_size)]
        dist.gather(padded, parts)
    return torch.stack(parts, 1).flatten(0, 1)[:count].numpy() if parts else None


def broadcast_object(rank: int, value: T) -> T:
    """The value of one rank, on all of them; waits for it as long as it takes."""
    if current_world().world_size == 1:
        return value
    box = [value]
    with peer_errors(f"waiting for rank {rank}"):
        dist.broadcast_object_list(box, rank, group=_patient)
    return box[0]


def all_gather_object(value: T) -> list[T]:
    """The values of all ranks, on all of them."""
    if current_world().world_size == 1:
        return [value]
    values: list[Any] = [None] * current_world().world_size
    with peer_errors("comparing"):
        dist.all_gather_object(values, value, group=_patient)
    return cast(list[T], values)


def barrier() -> None:
    """Go on when all ranks are here."""
    all_gather_object(None)


@contextmanager
def peer_errors(doing: str) -> Iterator[None]:
    """Turn the many errors of a broken connection into one that a person understands.

    Raises:
        LostRank: another rank is gone or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        world = current_world()
        lost = isinstance(error, dist.DistError) or any(w in str(error).lower() for w in BROKEN)
        if world.world_size == 1 or isinstance(error, torch.OutOfMemoryError) or not lost:
            raise
        raise LostRank(
            f"Rank {world.rank} of {world.world_size} lost the others while {doing}.", AGAIN
        ) from error


_patient: dist.ProcessGroup | None = None


def _open_patient_group() -> None:
    global _patient  # as torch's own default group
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    _patient = cast(dist.ProcessGroup, group)  # each rank is a member


def _leave_others_behind() -> None:
    """Close the connections, which the other ranks notice, without waiting for them."""
    group = dist.group.WORLD
    if torch.cuda.is_available() and group is not None:
        group.abort()  # to destroy NCCL's part would wait
    else:
        dist.destroy_process_group()


def _take_gpu(world: World) -> None:
    count = torch.cuda.device_count()
    if world.local_rank >= count:
        raise UsageError(
            f"Rank {world.rank} wants GPU {world.local_rank} of its machine, which has {count}.",
            f"Start {count} processes a machine: --nproc {count} (torchrun: --nproc-per-node).",
        )
    torch.cuda.set_device(world.local_rank)

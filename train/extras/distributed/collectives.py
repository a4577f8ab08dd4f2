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
from train.engine.world import Place, here, standing

__all__ = [
    "any_rank",
    "any_ranks",
    "each_rank",
    "first_rank",
    "from_rank",
    "gather_rows",
    "linked",
    "mean",
    "open_ranks",
    "share_buffers",
    "total",
    "wait_for_all",
]

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)  # of one exchange; a rank that died is noticed at once
PATIENCE = timedelta(days=2)  # while rank 0 reads photographs, saves or predicts
BROKEN = ("gloo", "nccl", "connection", "timed out", "timeout", "broken pipe", "socket")
STRIDES = "Grad strides do not match"  # of sides of length 1, which costs nothing
AGAIN = "The rank that ended first says why. Run the same command again to go on."


@contextmanager
def open_ranks(place: Place) -> Iterator[None]:
    """Join the process group of torchrun's environment while the block runs.

    Raises:
        UsageError: there are more ranks than GPUs on this machine.
        LostRank: the ranks do not meet in time.
    """
    if place.world == 1:
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        _take_gpu(place)
    with standing(place):
        with linked("meeting the other ranks"):
            warnings.filterwarnings("ignore", STRIDES)
            dist.init_process_group(backend, timeout=TIMEOUT, rank=place.rank)
            _open_patient_group()
        try:
            yield
        except BaseException:
            _leave_others_behind()
            raise
    dist.destroy_process_group()


def first_rank(flag: bool) -> int | None:
    """The lowest rank whose flag is true; None where no rank's is."""
    place = here()
    if place.world == 1:
        return place.rank if flag else None
    value = torch.tensor(place.world - place.rank if flag else 0)
    with linked("agreeing"):
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return place.world - int(value) if value else None


def any_rank(flag: bool) -> bool:
    """Whether the flag of any rank is true."""
    return first_rank(flag) is not None


def any_ranks(*flags: bool) -> list[bool]:
    """Of each flag whether that of any rank is true, in one exchange."""
    if here().world == 1:
        return list(flags)
    values = torch.tensor(flags, dtype=torch.int64)
    with linked("agreeing"):
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


def total(values: Tensor) -> Tensor:
    """Sum of a tensor over the ranks; the tensor itself in a world of one."""
    if here().world == 1:
        return values
    summed = values.clone()
    with linked("adding up"):
        dist.all_reduce(summed)
    return summed


def mean(values: dict[str, float]) -> dict[str, float]:
    """Mean over the ranks of figures with the same names."""
    if here().world == 1 or not values:
        return values
    names = sorted(values)
    summed = total(torch.tensor([values[name] for name in names], dtype=torch.float64))
    return dict(zip(names, (summed / here().world).tolist(), strict=True))


def share_buffers(module: nn.Module) -> None:
    """Give all ranks the buffers of rank 0, such as the statistics of its batch norms."""
    if here().world == 1:
        return
    with linked("sharing buffers"), torch.no_grad():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def gather_rows(rows: NDArray[np.float32], count: int) -> NDArray[np.float32] | None:
    """Put the rows of `train.engine.world.share` back into their order, on rank 0.

    The last share may be a row shorter; it travels with an empty row, which is cut off.

    Args:
        rows: (n, K) of this rank.
        count: N of all ranks.

    Returns:
        (N, K) on rank 0; None on others.
    """
    place = here()
    if place.world == 1:
        return rows
    width = torch.tensor(rows.shape[1])
    parts = None
    with linked("gathering answers"):
        dist.all_reduce(width, dist.ReduceOp.MAX)  # a rank without rows does not know it
        padded = torch.zeros(-(-count // place.world), int(width))
        if len(rows):
            padded[: len(rows)] = torch.from_numpy(rows)
        if place.is_writer:
            parts = [torch.empty_like(padded) for _ in range(place.world)]
        dist.gather(padded, parts)
    return torch.stack(parts, 1).flatten(0, 1)[:count].numpy() if parts else None


def from_rank(rank: int, value: T) -> T:
    """The value of one rank, on all of them; waits for it as long as it takes."""
    if here().world == 1:
        return value
    box = [value]
    with linked(f"waiting for rank {rank}"):
        dist.broadcast_object_list(box, rank, group=_patient)
    return box[0]


def each_rank(value: T) -> list[T]:
    """The values of all ranks, on all of them."""
    if here().world == 1:
        return [value]
    values: list[Any] = [None] * here().world
    with linked("comparing"):
        dist.all_gather_object(values, value, group=_patient)
    return cast(list[T], values)


def wait_for_all() -> None:
    """Go on when all ranks are here."""
    each_rank(None)


@contextmanager
def linked(doing: str) -> Iterator[None]:
    """Turn the many errors of a broken connection into one that a person understands.

    Raises:
        LostRank: another rank is gone or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        place = here()
        lost = isinstance(error, dist.DistError) or any(w in str(error).lower() for w in BROKEN)
        if place.world == 1 or isinstance(error, torch.OutOfMemoryError) or not lost:
            raise
        raise LostRank(
            f"Rank {place.rank} of {place.world} lost the others while {doing}.", AGAIN
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


def _take_gpu(place: Place) -> None:
    count = torch.cuda.device_count()
    if place.local_rank >= count:
        raise UsageError(
            f"Rank {place.rank} wants GPU {place.local_rank} of its machine, which has {count}.",
            f"Start {count} processes a machine: --nproc {count} (torchrun: --nproc-per-node).",
        )
    torch.cuda.set_device(place.local_rank)

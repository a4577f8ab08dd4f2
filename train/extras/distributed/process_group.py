"""ProcessGroup: several ranks that train together, as `train.engine.world.World` asks for it.

Flags and figures travel over gloo on the CPU; gradients over NCCL where there are GPUs. Every
method that exchanges something must be called by all ranks in the same order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from serve.contract.errors import LostRank, StillroomError, UsageError
from train.engine.world import Forward, World, single_process, use_world
from train.extras.distributed.parallel import build_forward
from train.losses.objective import Objective

__all__ = ["ProcessGroup", "is_shared", "open_process_group"]

T = TypeVar("T")
E = TypeVar("E", bound=StillroomError)

TIMEOUT = timedelta(minutes=30)  # of one exchange; a rank that died is noticed at once
PATIENCE = timedelta(days=2)  # while rank 0 reads images, saves or predicts
BROKEN = ("gloo", "nccl", "connection", "timed out", "timeout", "broken pipe", "socket")
STRIDES = "Grad strides do not match"  # of sides of length 1, which costs nothing
AGAIN = "The rank that ended first says why. Run the same command again to go on."
SHARED = "Every rank raises this; rank 0 says it."


@dataclass(frozen=True)
class ProcessGroup(World):
    """A rank among others, as `World`; `open_process_group` joins them."""

    def barrier(self) -> None:
        """As `World`."""
        self.all_gather_object(None)

    def first_true_rank(self, flag: bool) -> int | None:
        """As `World`."""
        value = torch.tensor(self.world_size - self.rank if flag else 0)
        with self.peer_errors("agreeing"):
            dist.all_reduce(value, dist.ReduceOp.MAX)
        return self.world_size - int(value) if value else None

    def each_any_true(self, *flags: bool) -> list[bool]:
        """As `World`."""
        values = torch.tensor(flags, dtype=torch.int64)
        with self.peer_errors("agreeing"):
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return [bool(value) for value in values.tolist()]

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """As `World`; a new tensor."""
        summed = values.clone()
        with self.peer_errors("adding up"):
            dist.all_reduce(summed)
        return summed

    def all_reduce_mean(self, values: dict[str, float]) -> dict[str, float]:
        """As `World`."""
        if not values:
            return values
        names = sorted(values)
        given = torch.tensor([values[name] for name in names], dtype=torch.float64)
        means = (self.all_reduce_sum(given) / self.world_size).tolist()
        return dict(zip(names, means, strict=True))

    def broadcast_object(self, rank: int, value: T) -> T:
        """As `World`."""
        box = [value]
        with self.peer_errors(f"waiting for rank {rank}"):
            dist.broadcast_object_list(box, rank, group=_patient)
        return box[0]

    def all_gather_object(self, value: T) -> list[T]:
        """As `World`."""
        values: list[Any] = [None] * self.world_size
        with self.peer_errors("comparing"):
            dist.all_gather_object(values, value, group=_patient)
        return cast(list[T], values)

    def broadcast_buffers(self, module: nn.Module) -> None:
        """As `World`."""
        with self.peer_errors("sharing buffers"), torch.no_grad():
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def gather_rows(self, rows: NDArray[np.float32], count: int) -> NDArray[np.float32] | None:
        """As `World`; the last share may be a row shorter: it travels with an empty row."""
        width = torch.tensor(rows.shape[1])
        parts = None
        with self.peer_errors("gathering predictions"):
            dist.all_reduce(width, dist.ReduceOp.MAX)  # a rank without rows does not know it
            padded = torch.zeros(-(-count // self.world_size), int(width))
            if len(rows):
                padded[: len(rows)] = torch.from_numpy(rows)
            if self.is_writer:
                parts = [torch.empty_like(padded) for _ in range(self.world_size)]
            dist.gather(padded, parts)
        return torch.stack(parts, 1).flatten(0, 1)[:count].numpy() if parts else None

    def build_forward(
        self, model: Any, objective: Objective, *, sync_bn: bool, prepare: Callable[[Any], Any]
    ) -> Forward:
        """As `World`; the model's weights and buffers become those of rank 0 now."""
        with self.peer_errors("comparing models"):
            forward = build_forward(model, objective, sync_bn=sync_bn, prepare=prepare)

        def guarded(images: Tensor, labels: Tensor, *, last: bool) -> Any:
            with self.peer_errors("starting a step"):
                return forward(images, labels, last=last)

        return guarded

    @contextmanager
    def peer_errors(self, doing: str) -> Iterator[None]:
        """As `World`.

        Raises:
            LostRank: another rank is gone or does not answer.
        """
        try:
            yield
        except RuntimeError as error:
            lost = isinstance(error, dist.DistError) or any(w in str(error).lower() for w in BROKEN)
            if isinstance(error, torch.OutOfMemoryError) or not lost:
                raise
            raise LostRank(
                f"Rank {self.rank} of {self.world_size} lost the others while {doing}.", AGAIN
            ) from error

    def check_batch_size(self, batch_size: int, key: str = "batch_size") -> None:
        """As `World`; the error names a batch size that does divide."""
        if batch_size % self.world_size:
            works = max(1, batch_size // self.world_size) * self.world_size
            raise UsageError(
                f"{key} = {batch_size} is the batch of all ranks together, and {self.world_size} "
                "ranks cannot share it equally.",
                f"Set {key}={works}.",
            )

    def check_equal(self, value: object, what: str) -> None:
        """As `World`; names the values of rank 0 and of the first that differs."""
        values = self.all_gather_object(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise self.shared(
                    UsageError(
                        f"Rank {rank} sees {what} {other}, rank 0 {values[0]}.",
                        "Put the run folder where all machines see the same files.",
                    )
                )

    def refuse_together(self, problem: str, next_step: str) -> None:
        """Raise on all ranks what one of them has to say; an empty problem is none.

        Raises:
            UsageError: a rank has a problem.
        """
        for rank, said in enumerate(self.all_gather_object(problem)):
            if said:
                raise self.shared(UsageError(f"Rank {rank}: {said}", next_step))

    def shared(self, error: E) -> E:
        """As `World`."""
        error.add_note(SHARED)
        return error

    def explain_together(
        self, explain: Callable[[], StillroomError], *, saw_it: Callable[[], bool]
    ) -> StillroomError:
        """As `World`."""
        with single_process():
            mine = saw_it()
        rank = self.first_true_rank(mine) or 0
        words = ("", "")
        if rank == self.rank:
            with single_process():
                error = explain()
            words = (f"Rank {rank}: {error.message}", error.next_step)
        return self.shared(StillroomError(*self.broadcast_object(rank, words)))


def is_shared(error: BaseException) -> bool:
    """Whether all ranks raise this error alike."""
    return SHARED in getattr(error, "__notes__", ())


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
    group = ProcessGroup(*astuple(world))
    with use_world(group):
        with group.peer_errors("meeting the other ranks"):
            warnings.filterwarnings("ignore", STRIDES)
            dist.init_process_group(backend, timeout=TIMEOUT, rank=world.rank)
            _open_patient_group()
        try:
            yield
        except BaseException:
            _leave_others_behind()
            raise
    dist.destroy_process_group()


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

"""`stillroom train --nproc N`: torchrun's engine, with the exit codes and messages of stillroom."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence

from serve.contract.errors import StillroomError, UsageError
from serve.contract.signals import ending_signals
from train.engine.world import world_from_env

__all__ = ["launch_ranks"]

HOST = "127.0.0.1"
SAVE_S = 120  # seconds that the ranks have to save after a signal, before they are killed


def launch_ranks(nproc: int, arguments: Sequence[str]) -> int:
    """Run `stillroom train` in N processes of this machine until all have ended.

    A signal to this process reaches all of them once; they save and end.

    Args:
        nproc: N, 2 or more.
        arguments: of `stillroom`, from `train` on.

    Returns:
        The exit code of the ranks; 75 after a signal.

    Raises:
        UsageError: torchrun started this process already, or there are fewer GPUs.
        StillroomError: a rank was killed.
    """
    _check(nproc)
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # of torchrun's engine: the ranks say what happened
    # One machine: neither its name nor its network need to be right.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc,
            run_id="stillroom",
            rdzv_backend="c10d",
            rdzv_endpoint=f"{HOST}:0",
            local_addr=HOST,
            max_restarts=0,
            signals_to_handle=",".join(one.name for one in ending_signals()),
            shutdown_timeout=SAVE_S,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "stillroom", *arguments)
        except SignalException:
            return 75
        except ChildFailedError as error:
            return _code_of({rank: failure.exitcode for rank, failure in error.failures.items()})
    return 0


def _check(nproc: int) -> None:
    if world_from_env(os.environ).world_size > 1:
        raise UsageError(
            "torchrun started this process, so --nproc cannot start more.", "Leave --nproc out."
        )
    import torch

    gpus = torch.cuda.device_count()
    if gpus and nproc > gpus:
        raise UsageError(
            f"--nproc {nproc}: this machine has {gpus} GPUs, one for each process.",
            f"Set --nproc {gpus}." if gpus > 1 else "Leave --nproc out.",
        )


def _code_of(codes: dict[int, int]) -> int:
    """The exit code of ranks of which the first to fail are given; each said why, if it could."""
    for rank, code in sorted(codes.items()):
        if code < 0:
            raise StillroomError(
                f"Rank {rank} was killed ({signal.Signals(-code).name}); all ranks were stopped.",
                "If memory ran out, lower batch_size, data.cache_mib or --nproc. Run the same "
                "command again: it goes on from the last saved state.",
            )
    return max(codes.values(), default=1)

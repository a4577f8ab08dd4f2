"""`stillroom train` by several processes: rank 0 runs the pipeline, the others join its training.

Rank 0 holds the run's lock, audits, writes and publishes. The others wait for its call, train with
it, write nothing, and end with it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from serve.contract.errors import Interrupted, LostRank, StillroomError
from serve.contract.signals import ENDING
from stillroom.console import show_error
from stillroom.run.execution import Request, run_stages
from stillroom.run.folder import RunFolder
from stillroom.run.pipeline import PIPELINE
from stillroom.run.stage_graph import Built, Context
from train.engine.world import World, current_world

__all__ = ["run_as_rank"]

STAGE = "teacher"  # the one stage that several ranks build


@dataclass(frozen=True)
class _Call:
    """What rank 0 says to those that wait: train with me, or (without a context) end."""

    context: Context | None
    exit_code: int = 0


def run_as_rank(world: World, request: Request) -> RunFolder | None:
    """Build what a request needs, as one of several ranks.

    Args:
        world: of this process.
        request: that ends with a training.

    Returns:
        The run folder; None on ranks that only join.

    Raises:
        SystemExit: on every rank, after an error that one of them said.
    """
    from train.extras.distributed.process_group import open_process_group

    with open_process_group(world):
        try:
            if world.is_writer:
                return _lead(request)
            _follow(request)
        except StillroomError as error:
            _say_and_exit(error)
        except Exception:
            _ignore_signals()
            raise
    return None


def _say_and_exit(error: StillroomError) -> NoReturn:
    """End this rank; what all ranks raise is said by rank 0, which ends first.

    Torchrun signals the other ranks as soon as one has ended; each ends by itself, in its words.
    """
    from train.extras.distributed.process_group import is_shared

    _ignore_signals()
    if not current_world().is_writer and is_shared(error):
        _wait_for_the_end_of_rank_0()
    elif current_world().is_writer or not isinstance(error, Interrupted):
        show_error(f"error: {error}")
    sys.exit(error.exit_code)


def _build_with_ranks(context: Context) -> Built | Mapping[str, Any]:
    """Build the teacher together with the ranks that wait for it.

    Args:
        context: of rank 0.

    Raises:
        UsageError: several ranks cannot do this training, or see other files.
    """
    from train.extras.distributed.parallel import check_sync_bn
    from train.fitting import pick_device

    options = context.recipe.teacher
    current_world().check_batch_size(options.batch_size, f"{STAGE}.batch_size")
    if options.sync_bn:
        check_sync_bn(pick_device())
    _say(_Call(replace(context, source=None)))
    _check_files(context)
    _waiting.clear()
    built = PIPELINE[STAGE].builder(context)
    _waiting.add(True)
    return built


_waiting = {True}  # empty while the other ranks are busy, and would not hear a call


def _lead(request: Request) -> RunFolder:
    code = 1
    try:
        folder = run_stages(PIPELINE.with_builder(STAGE, _build_with_ranks), request)
        code = 0
    except StillroomError as error:
        code = error.exit_code
        raise
    finally:
        if _waiting:
            _say(_Call(None, code))
    return folder


def _follow(request: Request) -> None:
    from train.data.source import open_source

    while (call := _hear()).context is not None:
        if request.photos is not None and not isinstance(request.photos, Path):
            open_source(request.photos)  # another machine has an index of its own
        _check_files(call.context)
        PIPELINE[STAGE].builder(call.context)
    if call.exit_code:
        _ignore_signals()
        _wait_for_the_end_of_rank_0()
        sys.exit(call.exit_code)


def _say(call: _Call) -> None:
    current_world().broadcast_object(0, call)


def _hear() -> _Call:
    return current_world().broadcast_object(0, _Call(None, 1))


def _check_files(context: Context) -> None:
    """All ranks must see the run folder and the images of rank 0."""
    from train.extras.distributed.process_group import ProcessGroup

    world = current_world()
    assert isinstance(world, ProcessGroup)
    wanted: tuple[Path, ...] = (context.photos, context.run.stage("data"), context.out)
    missing = [str(path) for path in wanted if not path.is_dir()]
    world.refuse_together(
        f"cannot see {missing[0]}." if missing else "",
        "Put images and run folder where all machines see them under the same path.",
    )


def _wait_for_the_end_of_rank_0() -> None:
    """Let rank 0 say what happened before torchrun, seeing another rank end, signals it."""
    with suppress(LostRank):
        current_world().broadcast_object(0, None)  # its end breaks the connection


def _ignore_signals() -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)

"""The BentoML service.

    STILLROOM_ARTIFACT=RUN/artifact bentoml serve serve.service:Classifier

BentoML gives processes, sockets, health checks and metrics; the app, the batcher and the guard are
ours (`serve.process.worker`). Its command-line process checks the artifact's files before a worker
starts;
the worker checks them again, and what the backend that serves makes of them. Whoever refuses leaves
one line, and the service ends. How workers are replaced is in `serve.process.supervisor`.

The two processes import this module and share next to nothing else: each import here delays the
start twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, NoReturn

from serve.process.lean_start import lean_start

with lean_start():  # before anything else imports BentoML
    import bentoml
    from _bentoml_sdk import Service

from starlette.types import ASGIApp

from serve.contract.artifact import open_artifact
from serve.contract.errors import StillroomError
from serve.contract.shortage import shortage_of
from serve.plugins import load_plugin
from serve.process.gpu_assignment import keep_one_gpu, service_options
from serve.process.parent_death import die_with_parent
from serve.process.ready_mark import leave_ready_mark
from serve.process.stderr_log import log_to_stderr
from serve.settings import settings_from_env

if TYPE_CHECKING:
    from serve.process.worker import ServiceWorker

__all__ = ["Classifier", "GuardedService"]

logger = logging.getLogger(__name__)
REFUSAL = 100  # plus an exit code of ours: of a worker that has said why it does not serve


class GuardedService(Service):  # type: ignore[misc]  # BentoML is not typed
    """A BentoML service with the guard outside everything BentoML installs.

    BentoML's own middlewares run inside its timeout and concurrency layers, which is too late to
    refuse a request. This rests on an undocumented method; tests/serve/test_service.py notices a
    BentoML that no longer calls it.
    """

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The ASGI app that a worker process serves."""
        with _or_refuse(REFUSAL):
            worker = _this_worker()
            return worker.around(super().to_asgi(is_main=is_main))


@bentoml.service(
    name="stillroom",
    **service_options(os.environ),
    logging={"access": {"enabled": False}},
    # BentoML wraps every message in a span, exported or not; that costs more than the guard.
    tracing={"excluded_urls": ".*"},
)
class Classifier:
    """Classifies images by the artifact in STILLROOM_ARTIFACT."""

    def __init__(self) -> None:
        die_with_parent(os.getppid())
        keep_one_gpu()
        with _or_refuse(REFUSAL):
            _this_worker().open()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def attend(self) -> None:
        """Listen to signals, and to whatever may change the model."""
        leave_ready_mark()
        with _or_refuse(REFUSAL):
            await _this_worker().attend()

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # makes it a static method
    def verify_before_workers() -> None:
        """Refuse damaged files in the command-line process, before anything else starts."""
        # Half of what it imports is the parent's alone.
        from serve.process.supervisor import supervise_workers

        log_to_stderr()
        with _or_refuse():
            settings = settings_from_env(os.environ)
            open_artifact(settings.artifact)  # no runner: this process never needs one's memory
            if settings.control:
                load_plugin("artifact_copies")(settings).clear()
            supervise_workers(settings, refusal=REFUSAL)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Let running inference end, then free the model."""
        _this_worker().close()

    def __is_ready__(self) -> bool:
        return _this_worker().is_ready


# Service is slotted: its instance cannot be patched, but it can change its class.
Classifier.__class__ = GuardedService  # type: ignore[method-assign]


@cache
def _this_worker() -> ServiceWorker:
    """Of this process; made when BentoML first asks for something that a worker does."""
    log_to_stderr()
    from serve.process.worker import ServiceWorker

    return ServiceWorker(settings_from_env(os.environ))


@contextmanager
def _or_refuse(refusal: int = 0) -> Iterator[None]:
    """Say an error of ours in one line and end the process, past BentoML and uvicorn.

    They would print a traceback.
    """
    try:
        yield
    except StillroomError as error:
        _refuse(str(error), refusal + error.exit_code)
    except (OSError, MemoryError) as error:
        if (line := shortage_of(error)) is None:
            raise
        _refuse(line, refusal + 2)


def _refuse(line: str, code: int) -> NoReturn:
    logger.error(line)
    os._exit(code)

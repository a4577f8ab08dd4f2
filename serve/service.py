"""The BentoML service.

    STILLROOM_ARTIFACT=RUN/artifact bentoml serve serve.service:Classifier

BentoML gives processes, sockets, health checks and metrics; the app, the batcher and the guard are
ours. Its command-line process verifies the artifact before a worker starts, and the worker verifies
it again on the backend that serves; neither leaves more than one line when it refuses.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import ExitStack
from typing import NoReturn

import bentoml
from _bentoml_sdk import Service
from starlette.types import ASGIApp

from serve.app import build_app
from serve.contract.errors import StillroomError
from serve.guard import Guard, GuardLimits
from serve.lifeline import die_with_parent
from serve.metrics import Metrics
from serve.request_log import start_request_log
from serve.served_model import open_served_model
from serve.settings import settings_from_env

__all__ = ["Classifier", "GuardedService"]

REQUEST_TIMEOUT_S = 30
app = build_app()


class GuardedService(Service):  # type: ignore[misc]  # BentoML is not typed
    """A BentoML service with the guard outside everything BentoML installs.

    BentoML's own middlewares run inside its timeout and concurrency layers, which is too late to
    refuse a request. This rests on an undocumented method; tests/serve/test_service.py notices a
    BentoML that no longer calls it.
    """

    __slots__ = ()

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The ASGI app that a worker process serves."""
        try:
            settings = settings_from_env(os.environ)
        except StillroomError as error:
            _refuse(error)
        app.state.metrics = Metrics()
        limits = GuardLimits(
            max_body_bytes=settings.max_body_mib * 2**20, body_timeout_s=settings.body_timeout_s
        )
        start_request_log()
        inner: ASGIApp = super().to_asgi(is_main=is_main)
        return Guard(inner, limits=limits, metrics=app.state.metrics)


@bentoml.service(
    name="stillroom",
    workers=1,
    traffic={"timeout": REQUEST_TIMEOUT_S},
    logging={"access": {"enabled": False}},
    # BentoML wraps every message in a span, exported or not; that costs more than the guard.
    tracing={"excluded_urls": ".*"},
)
@bentoml.asgi_app(app, path="/")
class Classifier:
    """Classifies images by the artifact in STILLROOM_ARTIFACT."""

    def __init__(self) -> None:
        die_with_parent(os.getppid())
        self._resources = ExitStack()
        try:
            settings = settings_from_env(os.environ)
            model = open_served_model(settings, app.state.metrics)
            app.state.model = self._resources.enter_context(model)
            _freeze_heap()
        except StillroomError as error:
            _refuse(error)

    @bentoml.on_deployment  # type: ignore[untyped-decorator]  # makes it a static method
    def verify_before_workers() -> None:
        """Refuse a bad artifact in the command-line process, whose exit code people see."""
        try:
            with open_served_model(settings_from_env(os.environ)):
                pass
        except StillroomError as error:
            _refuse(error)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Let running inference end, then free the model."""
        app.state.model = None
        self._resources.close()

    def __is_ready__(self) -> bool:
        return app.state.model is not None


# Service is slotted: its instance cannot be patched, but it can change its class.
Classifier.__class__ = GuardedService  # type: ignore[method-assign]


def _freeze_heap() -> None:
    """Take everything loaded so far out of the garbage collector's full passes.

    BentoML's heap is large, and a full pass stops every thread for some 100 ms, every few seconds
    under load. At 300 requests/s on 2 shared CPU cores (digits demo, 12 s, two runs each in turn)
    the p99 was 99 and 104 ms without this, 26 and 21 ms with it.
    """
    gc.collect()
    gc.freeze()


def _refuse(error: StillroomError) -> NoReturn:
    """Say one line and end the process, past BentoML and uvicorn: they would print a traceback."""
    sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)

"""Worker: what one worker process of the service is, apart from BentoML.

`serve.service` makes it in the process that answers; the process above the workers never imports
it, and so neither pays its time nor its memory. How a worker ends is in `serve.process.drain`, and
how it changes its model in `serve.process.hot_reload.reload`.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from contextlib import ExitStack
from pathlib import Path

from starlette.types import ASGIApp

from serve.http.admission import Headers
from serve.http.app import build_app
from serve.http.asgi_switch import AsgiSwitch
from serve.http.guard import Guard, GuardLimits
from serve.http.request_log import start_request_log
from serve.model.memory_share import LEAST_BYTES
from serve.model.served_model import ServedModel
from serve.process.drain import Drain, Leaving
from serve.process.gpu_assignment import keep_one_gpu
from serve.process.hot_reload.admin import AdminSocket
from serve.process.hot_reload.reload import ModelSlot
from serve.process.hot_reload.watch import watch_artifact
from serve.process.ready_mark import leave_ready_mark
from serve.process.uvicorn_protocol import install_connection
from serve.settings import Settings
from serve.telemetry.metrics import Metrics

__all__ = ["ServiceWorker"]

REQUEST_TIMEOUT_S = 30
M_MMAP_THRESHOLD = -3  # malloc.h
LARGE_BYTES = 2**20


class ServiceWorker:
    """The app of one process and the model behind it.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._drain = Drain(grace_s=settings.grace_s, drain_s=settings.drain_s)
        self._app = build_app(metrics=self._metrics, leaving=lambda: self._drain.draining)
        self._slot = ModelSlot(settings, self._publish, self._metrics)
        self._resources = ExitStack()

    @property
    def is_ready(self) -> bool:
        """Whether requests may be sent here."""
        return self._model is not None and self._model.is_sound and not self._drain.draining

    def around(self, bentoml_app: ASGIApp) -> ASGIApp:
        """What the HTTP server of this process serves.

        Args:
            bentoml_app: answers probes and metrics, and is started and stopped.

        Raises:
            StillroomError: spans are asked for, and cannot be sent.
        """
        settings = self._settings
        install_connection(header_timeout_s=settings.header_timeout_s, metrics=self._metrics)
        start_request_log()
        guard = Guard(
            AsgiSwitch(self._app, bentoml_app, timeout_s=REQUEST_TIMEOUT_S),
            limits=GuardLimits(
                max_body_bytes=settings.max_body_mib * 2**20,
                body_timeout_s=settings.body_timeout_s,
                max_held_bytes=lambda: self._model.held_bytes if self._model else LEAST_BYTES,
            ),
            metrics=self._metrics,
            token=settings.bearer.encode(),
            admit=self._admit,
        )
        outer = self._traced(guard) if settings.tracing else guard
        return Leaving(outer, self._drain)

    def open(self) -> None:
        """Load the model; ready after this.

        Raises:
            StillroomError: it must not be served, or cannot be here.
        """
        keep_one_gpu()
        self._slot.open()
        self._resources.callback(self._slot.close)
        _settle_memory()

    async def attend(self) -> None:
        """Listen to signals, to the admin socket and to the artifact's folder.

        Raises:
            StillroomError: the socket cannot be opened.
        """
        leave_ready_mark()
        self._resources.callback(self._drain.take_sigterm())
        if self._settings.control:
            admin = AdminSocket(Path(self._settings.control), self._slot)
            await admin.open()
            self._resources.callback(admin.close)
            await self._slot.catch_up()
        if self._settings.watch_s:
            watch = watch_artifact(self._slot, self._settings.artifact, self._settings.watch_s)
            self._resources.callback(asyncio.create_task(watch).cancel)

    def close(self) -> None:
        """Let running inference end, then free the model."""
        self._resources.close()

    @property
    def _model(self) -> ServedModel | None:
        model: ServedModel | None = self._app.state.model
        return model

    def _publish(self, model: ServedModel | None) -> None:
        self._app.state.model = model
        if model is not None:
            self._metrics.drift.expect(model.artifact)

    def _admit(self, headers: Headers) -> None:
        if self._model is not None:
            self._model.admit(headers)

    def _traced(self, guard: ASGIApp) -> ASGIApp:
        """The guard with a span for each request.

        What it imports takes a tenth of a second and some memory, which nobody pays who did not
        ask.
        """
        from serve.telemetry.tracing import Traced, provider_from_env

        return Traced(guard, provider_from_env().get_tracer("stillroom"), self._identity)

    def _identity(self) -> dict[str, str]:
        return self._model.identity if self._model is not None else {}


def _settle_memory() -> None:
    """Take everything loaded so far out of the garbage collector's full passes, and keep it small.

    BentoML's heap is large, and a full pass stops every thread for some 100 ms, every few seconds
    under load. At 300 requests/s on 2 shared CPU cores (digits demo, 12 s, two runs each in turn)
    the p99 was 99 and 104 ms without this, 26 and 21 ms with it.

    glibc keeps large blocks for a thread once it has freed one, so that each thread ends up with
    its largest photograph: 30 000 photographs of all sizes, most of them damaged, grew the process
    by 14 MiB, with a fixed limit by 3.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.malloc_trim(0)
    gc.freeze()

"""Worker: what one worker process of the service is, apart from BentoML.

`serve.service` makes it in the process that serves; the process above the workers never imports
it, and so neither pays its time nor its memory. How a worker ends is in `serve.process.drain`.
What is optional (another model while it serves, drift, spans, the Open Inference Protocol) is
loaded by name (`serve.plugins`), where the settings ask for it.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from prometheus_client import REGISTRY
from starlette.types import ASGIApp

from serve.http.admission import Headers
from serve.http.app import AsgiSwitch, build_app
from serve.http.exchange import start_request_log
from serve.http.guard import Guard, GuardLimits
from serve.http.routes import route_table
from serve.model.memory import LEAST_BYTES
from serve.model.served_model import ServedModel, open_served_model
from serve.plugins import load_plugin
from serve.process.drain import Drain, Leaving
from serve.process.uvicorn_protocol import install_connection
from serve.settings import Settings
from serve.telemetry.metrics import Metrics

__all__ = ["FixedModel", "ModelKeeper", "ServiceWorker"]

REQUEST_TIMEOUT_S = 30
M_MMAP_THRESHOLD = -3  # malloc.h
LARGE_BYTES = 2**20


class ModelKeeper(Protocol):
    """Loads the model of a worker, and publishes it to the app."""

    def open(self) -> None:
        """Load the model and publish it."""

    async def attend(self) -> None:
        """Start what may change the model."""

    def close(self) -> None:
        """Publish None, let running inference end, free the model."""


class FixedModel:
    """The model of a worker that serves one artifact as long as it lives.

    Args:
        settings: of the service.
        publish: told the model that serves from now on; None when it closes.
        metrics: told what is served.
    """

    def __init__(
        self,
        settings: Settings,
        publish: Callable[[ServedModel | None], None],
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._publish = publish
        self._metrics = metrics
        self._resources = ExitStack()

    def open(self) -> None:
        """Load the model.

        Raises:
            StillroomError: as `open_served_model`.
        """
        model = self._resources.enter_context(open_served_model(self._settings, self._metrics))
        self._publish(model)
        self._metrics.model_info.labels(**model.identity).set(1)

    async def attend(self) -> None:
        """Nothing changes the model."""

    def close(self) -> None:
        """Let running inference end, then free the model."""
        self._publish(None)
        self._resources.close()


class ServiceWorker:
    """The app of one process and the model behind it.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics(REGISTRY, load_plugin("drift") if settings.drift else None)
        self._drain = Drain(grace_s=settings.grace_s, drain_s=settings.drain_s)
        self._routes = route_table(oip=bool(settings.oip))
        self._app = build_app(
            metrics=self._metrics, leaving=lambda: self._drain.draining, routes=self._routes
        )
        may_change = settings.control or settings.watch_s
        keeper = load_plugin("hot_reload") if may_change else FixedModel
        self._keeper: ModelKeeper = keeper(settings, self._publish, self._metrics)
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
            routes=self._routes,
        )
        # With it comes a tenth of a second and some memory, which nobody pays who did not ask.
        outer = load_plugin("tracing")(guard, self._identity) if settings.tracing else guard
        return Leaving(outer, self._drain)

    def open(self) -> None:
        """Load the model; ready after this.

        Raises:
            StillroomError: it must not be served, or cannot be here.
        """
        self._keeper.open()
        self._resources.callback(self._keeper.close)
        _settle_memory()

    async def attend(self) -> None:
        """Listen to signals, and to whatever may change the model.

        Raises:
            StillroomError: the admin socket cannot be opened.
        """
        self._resources.callback(self._drain.take_sigterm())
        await self._keeper.attend()

    def close(self) -> None:
        """Let running inference end, then free the model."""
        self._resources.close()

    @property
    def _model(self) -> ServedModel | None:
        model: ServedModel | None = self._app.state.model
        return model

    def _publish(self, model: ServedModel | None) -> None:
        self._app.state.model = model
        if model is not None and self._metrics.drift:
            self._metrics.drift.expect(model.artifact)

    def _admit(self, headers: Headers) -> None:
        if self._model is not None:
            self._model.admit(headers)

    def _identity(self) -> dict[str, str]:
        return self._model.identity if self._model is not None else {}


def _settle_memory() -> None:
    """Take everything loaded so far out of the garbage collector's full passes, and keep it small.

    BentoML's heap is large, and a full pass stops every thread for some 100 ms, every few seconds
    under load. At 300 requests/s on 2 shared CPU cores (digits demo, 12 s, two runs each in turn)
    the p99 was 99 and 104 ms without this, 26 and 21 ms with it.

    glibc keeps large blocks for a thread once it has freed one, so that each thread ends up with
    its largest image: 30 000 images of all sizes, most of them damaged, grew the process
    by 14 MiB, with a fixed limit by 3.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.malloc_trim(0)
    gc.freeze()

"""ReloadableModel: the model of a worker that may change while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from serve.model.served_model import ServedModel
from serve.process.hot_reload.admin import AdminSocket
from serve.process.hot_reload.reload import ModelSlot
from serve.process.hot_reload.watch import watch_artifact
from serve.settings import Settings
from serve.telemetry.metrics import Metrics

__all__ = ["ReloadableModel"]


class ReloadableModel:
    """What `serve.process.worker` loads where the model may change: see its `FixedModel`.

    Args:
        settings: of the service; `control` and `watch_s` say what may change the model.
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
        self._slot = ModelSlot(settings, publish, metrics)
        self._resources = ExitStack()

    def open(self) -> None:
        """Load the first model.

        Raises:
            StillroomError: as `open_served_model`.
        """
        self._slot.open()

    async def attend(self) -> None:
        """Listen to the admin socket, and look at the artifact's folder.

        Raises:
            StillroomError: the socket cannot be opened.
        """
        if self._settings.control:
            admin = AdminSocket(Path(self._settings.control), self._slot)
            await admin.open()
            self._resources.callback(admin.close)
            await self._slot.catch_up()
        if self._settings.watch_s:
            watch = watch_artifact(self._slot, self._settings.artifact, self._settings.watch_s)
            self._resources.callback(asyncio.create_task(watch).cancel)

    def close(self) -> None:
        """Listen no more, let running inference end, free every model."""
        self._resources.close()
        self._slot.close()

"""Reload: change the served model without a pause, and back again.

The new artifact passes everything that a start asks of it (digests, golden images on the backend,
warm-up) while the old one serves. Then one pointer changes. A model has its own decoder, batcher
and runner, so a prediction comes from one model and a batch never holds two. The one before stays
loaded for an instant rollback; the one before that is freed once no request can be inside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from serve.contract.artifact import open_artifact
from serve.contract.errors import ArtifactError, StillroomError, UsageError
from serve.http.exchange import fault_line, log_line
from serve.model.served_model import ServedModel, open_served_model
from serve.process.hot_reload.artifact_copies import copies_of
from serve.settings import Settings
from serve.telemetry.metrics import Metrics

__all__ = ["ModelSlot"]

LONGEST_REQUEST_S = 40.0  # body, then response: after that time no request can hold an old model
CHECK_S = 0.05


@dataclass
class _Loaded:
    model: ServedModel
    resources: ExitStack
    retired_at: float = field(default=0.0)

    async def free(self) -> None:
        """Free it when no request can be inside."""
        while (
            self.model.batcher.open_requests
            or time.monotonic() < self.retired_at + LONGEST_REQUEST_S
        ):
            await asyncio.sleep(CHECK_S)
        await asyncio.to_thread(self.resources.close)


class ModelSlot:
    """The model of one worker process, and the one before it.

    Args:
        settings: of the service.
        publish: told the model that serves from now on; None when the slot closes.
        metrics: told what is served; nothing when None.
    """

    def __init__(
        self,
        settings: Settings,
        publish: Callable[[ServedModel | None], None],
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._publish = publish
        self._metrics = metrics
        self._kept = copies_of(settings)
        self._current: _Loaded | None = None
        self._previous: _Loaded | None = None
        self._freeing: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._tried = ""

    @property
    def tried(self) -> str:
        """What the watch has tried, by any worker that was here before too."""
        return self._kept.seen if self._kept else self._tried

    @tried.setter
    def tried(self, fingerprint: str) -> None:
        self._tried = fingerprint
        if self._kept:
            with suppress(OSError):  # a worker that is replaced would try it once more
                self._kept.seen = fingerprint

    @property
    def current(self) -> ServedModel:
        """What serves now."""
        assert self._current is not None  # `open` comes first
        return self._current.model

    def open(self) -> None:
        """Load the first model: the kept one where a worker is replaced.

        Raises:
            StillroomError: as `open_served_model`.
        """
        kept = self._kept.current() if self._kept else None
        self._swap(self._load(kept or self._settings.artifact))

    async def reload(self, source: Path | None = None) -> dict[str, Any]:
        """Serve another artifact from now on.

        Args:
            source: an artifact folder or the run folder above it; the service's own when None.

        Returns:
            `status()` after the change.

        Raises:
            StillroomError: it must not be served; the one before still serves.
        """
        async with self._changing:
            path = source or self._settings.artifact
            try:
                artifact = await asyncio.to_thread(open_artifact, path)
                if artifact.digest == self.current.artifact.digest:
                    return self.status()
                loaded = await asyncio.to_thread(self._load, path)
            except StillroomError as error:
                _log("reload-refused", self.current, error=str(error))
                raise
            except Exception as error:  # no candidate may harm what serves
                _log("reload-refused", self.current, error=fault_line(error))
                raise ArtifactError(
                    "The artifact could not be loaded.", "The log of the service says why."
                ) from error
            self._swap(loaded)
            _log("reloaded", self.current)
            return self.status()

    async def catch_up(self) -> None:
        """Serve what other workers changed to while this one started."""
        kept = self._kept.current() if self._kept else None
        if kept and kept.name != self.current.artifact.digest:
            with suppress(StillroomError):  # logged; it serves what it has
                await self.reload(kept)

    async def rollback(self) -> dict[str, Any]:
        """Serve the previous model again; it is still loaded. Twice is where it began.

        Only a worker that replaced another has to load it first.

        Raises:
            StillroomError: there is none, or it cannot be served any more.
        """
        async with self._changing:
            if self._previous:
                self._keep(self._previous.model)
                back, self._previous = self._previous, None
            elif path := self._kept_previous():
                back = await asyncio.to_thread(self._load, path)
            else:
                raise UsageError(
                    "This service has no previous model to go back to.",
                    "It has served one artifact since it started; "
                    "name another: stillroom admin reload RUN",
                )
            self._swap(back)
            _log("rolled-back", self.current)
            return self.status()

    def status(self) -> dict[str, Any]:
        """Digests of what serves and of what a rollback would bring."""
        previous = self._previous.model.identity if self._previous else None
        return {"current": self.current.identity, "previous": previous}

    def close(self) -> None:
        """Stop serving, let running inference end, free everything."""
        self._publish(None)
        for task in self._freeing:
            task.cancel()
        for loaded in (self._current, self._previous):
            if loaded:
                loaded.resources.close()
        self._current = self._previous = None

    def _load(self, path: Path) -> _Loaded:
        with ExitStack() as stack:
            settings = replace(self._settings, artifact=path)
            model = stack.enter_context(open_served_model(settings, self._metrics))
            self._keep(model)
            return _Loaded(model, stack.pop_all())

    def _swap(self, loaded: _Loaded) -> None:
        dropped, self._previous, self._current = self._previous, self._current, loaded
        self._publish(loaded.model)
        if self._previous:
            self._previous.retired_at = time.monotonic()
        if dropped:
            task = asyncio.get_running_loop().create_task(dropped.free())
            self._freeing.add(task)
            task.add_done_callback(self._freeing.discard)
        if self._metrics:
            for one, serves in ((self._previous, 0), (self._current, 1)):
                if one:
                    self._metrics.model_info.labels(**one.model.identity).set(serves)

    def _keep(self, model: ServedModel) -> None:
        """Make it what a new worker serves; the last thing that can fail before a swap."""
        if self._kept:
            before = self._current.model.artifact.digest if self._current else ""
            self._kept.keep(model.artifact, previous=before)

    def _kept_previous(self) -> Path | None:
        """Where a worker that has no previous model goes back to.

        Another worker may have gone back already: then that one's is the current copy.
        """
        copies = (self._kept.current(), self._kept.previous()) if self._kept else ()
        serving = self.current.artifact.digest
        return next((path for path in copies if path and path.name != serving), None)


def _log(event: str, model: ServedModel, *, error: str = "") -> None:
    """One line of JSON beside the request log's."""
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": event,
        "serving": model.artifact.digest,
    }
    if error:
        line["error"] = error
    log_line(line)

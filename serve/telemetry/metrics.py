"""Metrics: what Prometheus reads at /metrics, beside BentoML's own figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from serve.contract.artifact import Artifact

__all__ = ["Metrics", "Observer"]

STAGES = ("decode", "queue", "infer", "total")
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Observer(Protocol):
    """What is told of each image and of its prediction, in the threads that decode and infer."""

    def observe_image(
        self, size_bytes: int, size_px: tuple[int, int], pixels: NDArray[np.uint8]
    ) -> None:
        """One image: bytes of its file, width and height, (S, S, 3) pixels."""

    def observe_logits(self, logits: NDArray[np.floating], labels: Sequence[str]) -> None:
        """One batch: (N, K) logits, perhaps not finite, of K labels."""

    def expect(self, artifact: Artifact) -> object:
        """The artifact whose predictions come from now on."""


class Metrics:
    """The service's counters; one instance per registry.

    Args:
        registry: BentoML serves the default one.
        drift: makes what observes images and predictions; nothing does when None.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        drift: Callable[[CollectorRegistry], Observer] | None = None,
    ) -> None:
        self.requests = Counter(
            "stillroom_requests",
            "Responses by path and status",
            ["path", "status"],
            registry=registry,
        )
        self.problems = Counter(
            "stillroom_problems",
            "Problems of responses and of images of a batch, by reason",
            ["reason"],
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "stillroom_stage_seconds",
            f"Time of a classification by stage: {', '.join(STAGES)}",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "stillroom_batch_size",
            "Images in one inference",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.waiting = Gauge(
            "stillroom_images_waiting",
            "Decoded images that no inference had taken when the last one ended",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.in_flight = Gauge(
            "stillroom_requests_in_flight",
            "Requests under way; probes and scrapes apart",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.model_info = Gauge(
            "stillroom_model_info",
            "1 for the model that is served",
            ["name", "version", "digest", "backend"],
            multiprocess_mode="livemax",  # a worker that died says nothing about now
            registry=registry,
        )
        self.drift = drift(registry) if drift else None
        self._stages = {stage: self.stage_seconds.labels(stage) for stage in STAGES}
        self._responses: dict[tuple[str, int], Counter] = {}  # found without labels' own search

    def observe_batch(self, size: int, waiting: int) -> None:
        """Count one inference, and what it left behind."""
        self.batch_size.observe(size)
        self.waiting.set(waiting)

    def observe_stages(self, stages_ms: dict[str, float]) -> None:
        """Record the stages of one classification: milliseconds by name of STAGES."""
        for stage, value_ms in stages_ms.items():
            self._stages[stage].observe(value_ms / 1e3)

    def observe_request(self, path: str, status: int, reason: str) -> None:
        """Count a response; `path` must come from a closed list, `reason` is empty for a good one.

        A path that a stranger chose would be a new time series per request.
        """
        key = (path, status)
        if key not in self._responses:
            self._responses[key] = self.requests.labels(path, str(status))
        self._responses[key].inc()
        if reason:
            self.observe_problem(reason)

    def observe_problem(self, reason: str) -> None:
        """Count a problem, of a response or of one image of a batch."""
        self.problems.labels(reason).inc()

"""ServedModel: what one worker process holds once its artifact has proven itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.admission import Headers, timeout_ms_of
from serve.batcher import Batcher
from serve.contract.artifact import Artifact, open_artifact
from serve.contract.preprocess import DecodeLimits, preprocess_sized
from serve.metrics import Metrics
from serve.pixel_room import PixelRoom
from serve.runner import Runner, open_runner
from serve.settings import Settings
from serve.verify import GoldenCheck, replay_golden, warm_up

__all__ = ["ServedModel", "open_served_model"]

# Of the manifest, what a stranger may read; `files`, `runtime` and paths are not among them.
SHOWN = ("name", "version", "digest", "precision", "input", "preprocess", "normalisation", "opset")


@dataclass(frozen=True)
class ServedModel:
    """A verified artifact, its runner and the batcher in front of it.

    Args:
        artifact: whose digests were verified.
        runner: on which the golden images were replayed.
        batcher: to which requests go.
        golden: outcome of the replay.
        deadline_ms: longest time for an answer.
        max_invalid: answers in a row that are not finite, after which it is not to be trusted.
    """

    artifact: Artifact
    runner: Runner
    batcher: Batcher
    golden: GoldenCheck
    deadline_ms: int
    max_invalid: int

    @property
    def is_sound(self) -> bool:
        """Whether it may answer; once it may not, only a new start makes it so."""
        return self.batcher.invalid_in_a_row < self.max_invalid

    def admit(self, headers: Headers) -> None:
        """Refuse a request before its body is read.

        Raises:
            RequestError: 400, the time that it asks for is none; 503, it would not be answered
                in that time.
        """
        self.batcher.check_room(timeout_ms_of(headers, self.deadline_ms))

    @property
    def identity(self) -> dict[str, str]:
        """The `model` member of every answer."""
        return {
            "name": self.artifact.name,
            "version": self.artifact.version,
            "digest": self.artifact.digest,
            "backend": self.runner.backend,
        }

    def describe(self) -> dict[str, Any]:
        """The answer of GET /v1/model."""
        manifest = self.artifact.manifest
        return {
            **{key: manifest[key] for key in SHOWN if key in manifest},
            "labels": list(self.artifact.labels),
            "backend": self.runner.backend,
            "runner": self.runner.describe(),
            "golden": self.golden.to_dict(),
            "parity": manifest.get("parity", {}),
            "lineage": manifest.get("lineage", []),
        }


@contextmanager
def open_served_model(settings: Settings, metrics: Metrics | None = None) -> Iterator[ServedModel]:
    """Verify digests, replay the golden images on the backend that will serve, and warm up.

    Raises:
        ArtifactError: the artifact must not be served.
        UsageError: the backend does not work here.
    """
    artifact = open_artifact(settings.artifact)
    with open_runner(
        artifact,
        backend=settings.backend,
        threads=settings.threads,
        max_batch_size=settings.max_batch,
    ) as runner:
        golden = replay_golden(artifact, runner)
        warm_up(artifact, runner)
        limits = DecodeLimits(max_bytes=settings.max_body_mib * 2**20)
        room = PixelRoom(limits.max_pixels)

        def decode(data: bytes) -> NDArray[np.uint8]:
            pixels, size_px = preprocess_sized(data, artifact.preprocess, limits, room.of)
            if metrics:
                metrics.drift.observe_image(len(data), size_px, pixels)
            return pixels

        batcher = Batcher(
            runner,
            decode,
            max_queue=settings.max_queue,
            decode_threads=settings.decode_threads,
            observed=_observed(metrics, artifact) if metrics else None,
        )
        with batcher:
            yield ServedModel(
                artifact, runner, batcher, golden, settings.deadline_ms, settings.max_invalid
            )


def _observed(metrics: Metrics, artifact: Artifact) -> Callable[[NDArray[np.floating], int], None]:
    def observe(logits: NDArray[np.floating], waiting: int) -> None:
        metrics.observe_batch(len(logits), waiting)
        metrics.drift.observe_logits(logits, artifact.labels)

    return observe

"""ServedModel: what one worker process holds once its artifact has proven itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.contract.artifact import Artifact, open_artifact
from serve.contract.errors import ImageError, TooManyPixels
from serve.contract.preprocess import DecodeLimits, charge_of_file, preprocess_sized
from serve.http.admission import Headers, timeout_ms_of
from serve.model.batcher import Batcher
from serve.model.golden_check import GoldenCheck, replay_golden, warm_up
from serve.model.memory import DecodeBudget, MemoryShare, memory_share, private_bytes
from serve.process.cgroups import memory_limit
from serve.runners.base import Runner
from serve.runners.open import open_runner
from serve.settings import Settings
from serve.telemetry.metrics import Metrics

__all__ = ["ServedModel", "open_served_model"]

logger = logging.getLogger(__name__)

# Of the manifest, what a stranger may read; `files`, `runtime` and paths are not among them.
SHOWN = ("name", "version", "digest", "precision", "input", "preprocess", "normalisation", "opset")

TOGETHER = 4 / 3  # of the charge of one image, for all of a request: about 1 s of one core


@dataclass(frozen=True)
class ServedModel:
    """A verified artifact, its runner and the batcher in front of it.

    Args:
        artifact: whose digests were verified.
        runner: on which the golden images were replayed.
        batcher: to which requests go.
        golden: outcome of the replay.
        limits: of an image.
        held_bytes: of bodies that have arrived and have no response yet, together.
        deadline_ms: longest time for a response.
        max_invalid: predictions in a row that are not finite, after which it is not to be trusted.
    """

    artifact: Artifact
    runner: Runner
    batcher: Batcher
    golden: GoldenCheck
    limits: DecodeLimits
    held_bytes: int
    deadline_ms: int
    max_invalid: int

    @property
    def is_sound(self) -> bool:
        """Whether it may serve; once it may not, only a new start makes it so."""
        return self.batcher.invalid_in_a_row < self.max_invalid

    def admit(self, headers: Headers) -> None:
        """Refuse a request before its body is read.

        Raises:
            RequestError: 400, the time that it asks for is none; 503, it would not be answered
                in that time.
        """
        self.batcher.check_room(timeout_ms_of(headers, self.deadline_ms))

    def check_together(self, files: Sequence[bytes]) -> None:
        """Refuse images that together cost more than a request may.

        Raises:
            TooManyPixels: they do. A file that is not an image costs nothing; it fails later,
                alone.
        """
        charge = 0
        for data in files:
            with suppress(ImageError):
                charge += charge_of_file(data, self.limits)
        if charge > self.limits.max_charge * TOGETHER:
            raise TooManyPixels(
                f"The {len(files)} images of this request cost {charge / 1e6:.0f} MB to decode, "
                f"more than the {self.limits.max_charge * TOGETHER / 1e6:.0f} of one request.",
                "Send fewer at once, or smaller ones.",
            )

    @property
    def identity(self) -> dict[str, str]:
        """The `model` member of every response."""
        return {
            "name": self.artifact.name,
            "version": self.artifact.version,
            "digest": self.artifact.digest,
            "backend": self.runner.backend,
        }

    def describe(self) -> dict[str, Any]:
        """What GET /v1/model gives."""
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
        share = memory_share(settings, limit=memory_limit(), used=private_bytes())
        limits = DecodeLimits.for_strangers(share.megapixels, settings.max_body_mib * 2**20)
        room = DecodeBudget(share.decode_bytes)
        _say_if_lowered(share, settings)

        drift = metrics.drift if metrics else None

        def decode(data: bytes) -> NDArray[np.uint8]:
            pixels, size_px = preprocess_sized(data, artifact.preprocess, limits, room.of)
            if drift:
                drift.observe_image(len(data), size_px, pixels)
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
                artifact,
                runner,
                batcher,
                golden,
                limits,
                share.held_bytes,
                settings.deadline_ms,
                settings.max_invalid,
            )


def _say_if_lowered(share: MemoryShare, settings: Settings) -> None:
    if share.megapixels < settings.max_megapixels:
        logger.warning(
            f"the memory of this container leaves a worker {share.decode_bytes / 1e6:.0f} MB for "
            f"decoding: JPEGs of up to {share.megapixels:.0f} megapixels are answered, not "
            f"{settings.max_megapixels}. Give it more memory, or fewer workers."
        )


def _observed(metrics: Metrics, artifact: Artifact) -> Callable[[NDArray[np.floating], int], None]:
    def observe(logits: NDArray[np.floating], waiting: int) -> None:
        metrics.observe_batch(len(logits), waiting)
        if metrics.drift:
            metrics.drift.observe_logits(logits, artifact.labels)

    return observe

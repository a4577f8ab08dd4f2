"""ServedModel: what one worker process holds once its artifact has proven itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from serve.batcher import Batcher
from serve.contract.artifact import Artifact, open_artifact
from serve.contract.preprocess import DecodeLimits, preprocess
from serve.metrics import Metrics
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
    """

    artifact: Artifact
    runner: Runner
    batcher: Batcher
    golden: GoldenCheck

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
        batcher = Batcher(
            runner,
            partial(preprocess, spec=artifact.preprocess, limits=limits),
            max_queue=settings.max_queue,
            decode_threads=settings.decode_threads,
            observe_batch=metrics.batch_size.observe if metrics else lambda size: None,
        )
        with batcher:
            model = ServedModel(artifact, runner, batcher, golden)
            if metrics:
                metrics.model_info.labels(**model.identity).set(1)
            yield model

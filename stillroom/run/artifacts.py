"""The artifacts of a run, and the runner that answers with one in this process. No torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.contract.artifact import MODEL, Artifact
from serve.contract.manifest import MANIFEST
from serve.contract.preprocess import NO_LIMITS, preprocess
from serve.model.golden_check import load_golden
from serve.runners.base import Runner
from serve.runners.open import open_runner
from serve.settings import settings_from_env

__all__ = ["artifacts_of", "golden_pixels", "open_local_runner"]

logger = logging.getLogger(__name__)


def artifacts_of(target: Path) -> Iterator[Path]:
    """Folders of the published artifacts, fp32 first; `target` itself where it is not a run."""
    if (target / MODEL).is_file() or not (target / "artifact").is_dir():
        yield target  # where there is none, opening it says what to do
        return
    for folder in sorted(target.glob("artifact*")):
        if (folder / MANIFEST).is_file():
            yield folder


def golden_pixels(artifact: Artifact) -> NDArray[np.uint8]:
    """(N, size_px, size_px, 3) of the golden images."""
    golden = load_golden(artifact)
    return np.stack(
        [preprocess(one.path.read_bytes(), artifact.preprocess, NO_LIMITS) for one in golden]
    )


def open_local_runner(artifact: Artifact) -> Runner:
    """Open an artifact's model as STILLROOM_BACKEND, _THREADS and _MAX_BATCH say.

    Raises:
        UsageError: a STILLROOM_* variable is wrong, or the backend does not work here.
        ArtifactError: the model does not fit the artifact.
    """
    settings = settings_from_env({**os.environ, "STILLROOM_ARTIFACT": str(artifact.root)})
    runner = open_runner(
        artifact,
        backend=settings.backend,
        threads=settings.threads,
        max_batch_size=settings.max_batch,
    )
    logger.debug("%s on %s: %s", artifact.root, runner.backend, runner.reason)
    return runner

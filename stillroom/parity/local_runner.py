"""The runner of commands that answer without a service, on the backend that one would take."""

from __future__ import annotations

import os

from serve.contract.artifact import Artifact
from serve.runners.base import Runner
from serve.runners.open import open_runner
from serve.settings import settings_from_env

__all__ = ["open_local_runner"]


def open_local_runner(artifact: Artifact) -> Runner:
    """Open an artifact's model as STILLROOM_BACKEND, _THREADS and _MAX_BATCH say.

    Raises:
        UsageError: a STILLROOM_* variable is wrong, or the backend does not work here.
        ArtifactError: the model does not fit the artifact.
    """
    settings = settings_from_env({**os.environ, "STILLROOM_ARTIFACT": str(artifact.root)})
    return open_runner(
        artifact,
        backend=settings.backend,
        threads=settings.threads,
        max_batch_size=settings.max_batch,
    )

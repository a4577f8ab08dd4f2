"""Runner: the one interface behind which a model runs, in parity checks and in the server."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serve.contract.artifact import Artifact
from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import ArtifactError

__all__ = ["Runner", "check_images", "largest_batch", "model_bytes"]

# On one CPU thread an image of a batch costs what it costs alone (ResNet-18 at 224 px: 34.9 and
# 34.6 ms alone and among 8), while a service with batches of 8 holds 47 MiB more than with 4, and
# is ready 1.1 s later (medians of 3 starts in turn). On a GPU it is the batch that fills it.
CPU_BATCH, GPU_BATCH = 4, 8


class Runner(Protocol):
    """A loaded model; a context manager, closed on exit. `infer` is called by one thread at a time.

    Attributes:
        backend: what really computes, by its name in `serve.runners.open`; not what was asked for.
        reason: one sentence: why this backend and no faster one.
        max_batch_size: largest N that `infer` takes.
    """

    backend: str
    reason: str
    max_batch_size: int

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Raw logits of a batch.

        Args:
            images: (N, size_px, size_px, 3) uint8 RGB from `preprocess`, 1 <= N <= max_batch_size.

        Returns:
            (N, K) float32, no softmax; may hold NaN if the model is broken.

        Raises:
            ValueError: dtype, shape or N is wrong.
        """

    def describe(self) -> dict[str, Any]:
        """JSON facts: provider really used, library version, threads, optimisation level."""

    def __enter__(self) -> Runner: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def largest_batch(backend: str, wanted: int) -> int:
    """The largest batch of a runner.

    Args:
        backend: its name in `serve.runners.open`.
        wanted: what it was told; 0 for nothing.
    """
    return wanted or (CPU_BATCH if backend == "onnxruntime-cpu" else GPU_BATCH)


def model_bytes(artifact: Artifact) -> bytes:
    """The ONNX file, hashed once more: what is loaded is what was verified.

    Raises:
        ArtifactError: the file changed after `open_artifact`.
    """
    data = artifact.model_path.read_bytes()
    if sha256_of_bytes(data) != artifact.manifest["files"].get(artifact.model_path.name):
        raise ArtifactError(
            f"{artifact.model_path} changed after it was verified.", "Copy the artifact again."
        )
    return data


def check_images(images: NDArray[np.uint8], size_px: int, max_batch_size: int) -> None:
    """Refuse a batch that no runner takes.

    Raises:
        ValueError: dtype, shape or batch size is wrong; names both sides.
    """
    expected = f"uint8 (1..{max_batch_size}, {size_px}, {size_px}, 3)"
    if images.dtype != np.uint8 or images.shape[1:] != (size_px, size_px, 3):
        raise ValueError(f"images are {images.dtype} {images.shape}; expected {expected}.")
    if not 1 <= len(images) <= max_batch_size:
        raise ValueError(f"a batch of {len(images)} images; expected {expected}.")

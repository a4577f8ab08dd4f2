"""Runner: the one interface behind which a model answers, in parity checks and in the server.

    with open_runner(open_artifact(Path("runs/flowers"))) as runner:
        logits = runner.infer(pixels)
        print(runner.backend, "because", runner.reason)

Which file runs where: `session_runner.py` is ONNX Runtime, on a CPU or through CUDA;
`tensorrt_runner.py` is TensorRT, with the plans that `engine_cache.py` keeps.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serve.contract.artifact import Artifact
from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import ArtifactError, EngineError, UsageError

__all__ = ["BACKENDS", "Runner", "check_images", "largest_batch", "model_bytes", "open_runner"]

# Fastest first. TensorRT's networks are strongly typed, so the artifact's precision says which of
# the three it runs as.
TENSORRT = ("tensorrt-fp16", "tensorrt-int8", "tensorrt-fp32")
BACKENDS = (*TENSORRT, "onnxruntime-cuda", "onnxruntime-cpu")
# On one CPU thread an image of a batch costs what it costs alone (ResNet-18 at 224 px: 34.9 and
# 34.6 ms alone and among 8), while a service with batches of 8 holds 47 MiB more than with 4, and
# is ready 1.1 s later (medians of 3 starts in turn). On a GPU it is the batch that fills it.
CPU_BATCH, GPU_BATCH = 4, 8


class Runner(Protocol):
    """A loaded model; a context manager, closed on exit. `infer` is called by one thread at a time.

    Attributes:
        backend: one of BACKENDS: what really computes, not what was asked for.
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


def open_runner(
    artifact: Artifact, *, backend: str = "auto", threads: int = 1, max_batch_size: int = 8
) -> Runner:
    """Load the artifact's model on the fastest backend that works here, or on a named one.

    Args:
        artifact: from `open_artifact`.
        backend: "auto" tries BACKENDS in order; a name from BACKENDS is taken or refused.
        threads: CPU threads inside one inference.
        max_batch_size: largest batch the caller will send; 0 takes what suits the backend.

    Raises:
        UsageError: unknown backend, or a named one that does not work on this machine.
        ArtifactError: the model does not fit the artifact's labels or preprocess spec.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise UsageError(
            f"backend = {backend!r}: expected auto or one of {', '.join(BACKENDS)}.",
            "Leave it at auto to take the fastest that works.",
        )
    if threads < 1 or max_batch_size < 0:
        raise UsageError(
            f"threads = {threads}, max_batch_size = {max_batch_size}: at least 1 and 0 are needed."
        )
    # TensorRT and ONNX Runtime come with extras, so that importing this module needs neither.
    why_not = ""
    if backend == "auto" or backend in TENSORRT:
        from serve.runners.tensorrt_runner import open_tensorrt_runner

        try:
            return open_tensorrt_runner(artifact, backend=backend, max_batch_size=max_batch_size)
        except EngineError as error:
            if backend != "auto":
                raise
            why_not = f"no TensorRT ({error.message.rstrip('.')})"
    from serve.runners.onnxruntime_runner import open_session_runner

    return open_session_runner(
        artifact,
        backend=backend,
        threads=threads,
        max_batch_size=max_batch_size,
        why_not=why_not,
    )


def largest_batch(backend: str, wanted: int) -> int:
    """The largest batch of a runner.

    Args:
        backend: one of BACKENDS.
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

"""SessionRunner: ONNX Runtime on a CPU or through CUDA.

ONNX Runtime falls back from CUDA to the CPU in silence, and still lists CUDA as available. So the
provider is read back from the session, and the session is refused when it is not the one asked for.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.contract.artifact import Artifact
from serve.contract.errors import ArtifactError, UsageError
from serve.runners.base import check_images, largest_batch, model_bytes

__all__ = [
    "SessionRunner",
    "installed_onnxruntime",
    "open_session_runner",
    "plain_session",
    "session_options",
]

PROVIDERS = {
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-cpu": "CPUExecutionProvider",
}
INPUT, OUTPUT = "image", "logits"


class SessionRunner:
    """A `Runner` over one ONNX Runtime session.

    Args:
        artifact: whose model.onnx is loaded, after its sha256 was checked once more.
        backend: "onnxruntime-cpu" or "onnxruntime-cuda".
        reason: why this backend, for people.
        threads: CPU threads inside one inference.
        max_batch_size: largest batch that `infer` takes; 0 takes what suits the backend.

    Raises:
        UsageError: ONNX Runtime is missing or installed twice, or the provider does not work.
        ArtifactError: the graph does not fit the artifact's labels or preprocess spec.
    """

    def __init__(
        self, artifact: Artifact, *, backend: str, reason: str, threads: int, max_batch_size: int
    ) -> None:
        self.backend = backend
        self.reason = reason
        self.max_batch_size = largest_batch(backend, max_batch_size)
        self._threads = threads
        self._size_px = artifact.preprocess.size_px
        self._version = installed_onnxruntime()
        self._session = _open_session(model_bytes(artifact), PROVIDERS[backend], threads)
        _check_graph(self._session, artifact)

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Raw logits (N, K) float32 of (N, size_px, size_px, 3) uint8; see `Runner.infer`."""
        check_images(images, self._size_px, self.max_batch_size)
        logits: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: images})[0]
        return logits

    def describe(self) -> dict[str, Any]:
        """JSON facts of the session as it runs."""
        return {
            "backend": self.backend,
            "reason": self.reason,
            "provider": self._session.get_providers()[0],
            "library": self._version,
            "threads": self._threads,
            "optimisation": "all",
            "max_batch_size": self.max_batch_size,
        }

    def __enter__(self) -> SessionRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None


def open_session_runner(
    artifact: Artifact, *, backend: str, threads: int, max_batch_size: int, why_not: str = ""
) -> SessionRunner:
    """Open the named backend, or for "auto" CUDA where it works and the CPU else.

    Args:
        artifact: see `SessionRunner`.
        backend: "auto" or a key of PROVIDERS.
        threads: see `SessionRunner`.
        max_batch_size: see `SessionRunner`.
        why_not: for "auto": why no faster backend was taken.

    Raises:
        UsageError: as `SessionRunner`; for "auto" only when not even the CPU works.
        ArtifactError: as `SessionRunner`.
    """
    wanted = {"threads": threads, "max_batch_size": max_batch_size}
    if backend != "auto":
        return SessionRunner(artifact, backend=backend, reason="it was asked for", **wanted)
    reasons = [why_not] if why_not else []
    if "CUDAExecutionProvider" not in _available_providers():
        reasons.append("the installed ONNX Runtime has no CUDA provider")
    else:
        try:
            return SessionRunner(
                artifact, backend="onnxruntime-cuda", reason=_auto(reasons), **wanted
            )
        except ArtifactError:
            raise
        except UsageError as error:
            reasons.append(error.message.rstrip("."))
    return SessionRunner(artifact, backend="onnxruntime-cpu", reason=_auto(reasons), **wanted)


def _auto(reasons: list[str]) -> str:
    return f"auto: {'; '.join(reasons) or 'the fastest that works here'}"


def installed_onnxruntime() -> str:
    """Name and version of the one installed ONNX Runtime, for example "onnxruntime 1.32.0".

    Raises:
        UsageError: none is installed, or two that overwrite one another.
    """
    found = {}
    for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if not found:
        raise UsageError(
            "ONNX Runtime is not installed.",
            'From a checkout run uv sync --extra cpu, or pip install ".[cpu]" '
            "([gpu] with an NVIDIA GPU).",
        )
    if len(found) > 1:
        names = " ".join(sorted(found))
        raise UsageError(
            f"{' and '.join(sorted(found))} are both installed and overwrite one another.",
            f"Uninstall both, then install one: pip uninstall -y {names} && "
            'pip install ".[cpu]" (or [gpu]) from a checkout.',
        )
    return " ".join(next(iter(found.items())))


def session_options(threads: int) -> Any:
    """Options of every session that serves, and of every one that is judged for serving.

    Args:
        threads: CPU threads inside one inference.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin take the core that decodes the next image.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def plain_session(model: Path | bytes, *, threads: int = 0, optimise: bool = True) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU, of a file that is looked into, not served.

    Args:
        model: ONNX or ORT file, or its bytes.
        threads: CPU threads; 0 takes all.
        optimise: False runs the graph as it is written.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _available_providers() -> list[str]:
    installed_onnxruntime()
    import onnxruntime

    names: list[str] = onnxruntime.get_available_providers()
    return names


def _open_session(model: bytes, provider: str, threads: int) -> Any:
    import onnxruntime

    if provider == "CUDAExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds the CUDA libraries that came as Python packages
    options = session_options(threads)
    if provider not in onnxruntime.get_available_providers():
        raise _provider_error(provider, "this build of ONNX Runtime does not have it")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        if provider != PROVIDERS["onnxruntime-cpu"]:
            raise _provider_error(provider, type(error).__name__) from error
        raise ArtifactError(
            f"ONNX Runtime cannot load model.onnx ({type(error).__name__}).",
            "Export the artifact again.",
        ) from error
    if (actual := session.get_providers()[0]) != provider:
        raise _provider_error(provider, f"ONNX Runtime fell back to {actual}")
    # What else would compute after an error is not what was verified; and without a change of
    # providers the file beside the weights made of it is kept for nothing.
    session.disable_fallback()
    session._model_bytes = None
    return session


def _provider_error(provider: str, why: str) -> UsageError:
    return UsageError(
        f"{provider} does not work here: {why}.",
        'Check the GPU driver (nvidia-smi) and, from a checkout, pip install ".[gpu]"; or take '
        "onnxruntime-cpu.",
    )


def _check_graph(session: Any, artifact: Artifact) -> None:
    side, count = artifact.preprocess.size_px, len(artifact.labels)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = [(i.name, i.type, i.shape[1:]) for i in inputs]
    if found != [(INPUT, "tensor(uint8)", [side, side, 3])]:
        raise _graph_error(f"inputs {found}", f"{INPUT!r}, uint8, (N, {side}, {side}, 3)")
    found = [(o.name, o.type, o.shape[1:]) for o in outputs]
    if found != [(OUTPUT, "tensor(float)", [count])]:
        raise _graph_error(f"outputs {found}", f"{OUTPUT!r}, float32, (N, {count} labels)")


def _graph_error(found: str, expected: str) -> ArtifactError:
    return ArtifactError(
        f"model.onnx has {found}; expected {expected}.", "Export the artifact again."
    )

"""TensorRTRunner: a TensorRT plan on the GPU that is here, without torch.

The plan comes from the artifact's engine cache, and is built from model.onnx where the cache has
none for this machine. One execution context, one stream, one pinned buffer in and one out.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.contract.artifact import Artifact
from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import EngineError
from serve.engines.build import BuiltEngine, Profile, build_engine
from serve.engines.cache import FOLDER, CachedEngine, EngineCache
from serve.engines.cuda_memory import Gpu, find_gpu, open_mirror, open_stream, synchronize
from serve.engines.key import EngineKey
from serve.engines.library import (
    EngineLibrary,
    find_engine_library,
    installed_engine_libraries,
    plain,
)
from serve.runners.base import check_images, largest_batch, model_bytes

__all__ = ["TensorRTRunner", "engine_key", "open_tensorrt_runner"]

INPUT, OUTPUT = "image", "logits"
ANY_GPU = "any GPU"  # TensorRT-RTX builds for a compute capability, whatever the card is called
REBUILD = "Build the engine again on this machine: stillroom export RUN --tensorrt"


class TensorRTRunner:
    """A `Runner` over one TensorRT engine.

    Args:
        artifact: whose labels and preprocess spec the engine must fit.
        engine: a plan that may be deserialised.
        library: that built it.
        gpu: that it runs on.
        reason: why this backend, for people.

    Attributes:
        key: of the plan.

    Raises:
        EngineError: TensorRT or CUDA refuse the plan, or it is not the artifact's.
    """

    def __init__(
        self,
        artifact: Artifact,
        engine: CachedEngine,
        library: EngineLibrary,
        gpu: Gpu,
        *,
        reason: str,
    ) -> None:
        self.backend = f"tensorrt-{artifact.precision}"
        self.reason = reason
        self.key = engine.key
        self.max_batch_size = engine.key.max_batch
        self._size_px = artifact.preprocess.size_px
        self._facts = _facts(engine, library, gpu)
        self._log = library.open_log()
        with ExitStack() as stack:  # frees what was taken, should a later step fail
            stack.callback(self._unload)
            self._load(library.module, engine.plan)
            _check_engine(library.module, self._engine, artifact, engine.key)
            self._stream = stack.enter_context(open_stream())
            side, count = self._size_px, len(artifact.labels)
            batch = self.max_batch_size
            self._images = stack.enter_context(
                open_mirror((batch, side, side, 3), np.uint8, self._stream)
            )
            self._logits = stack.enter_context(
                open_mirror((batch, count), np.float32, self._stream)
            )
            for name, mirror in ((INPUT, self._images), (OUTPUT, self._logits)):
                self._checked(self._context.set_tensor_address(name, mirror.device), "bind")
            self._open: ExitStack | None = stack.pop_all()

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Raw logits (N, K) float32 of (N, size_px, size_px, 3) uint8; see `Runner.infer`.

        Raises:
            ValueError: as `Runner.infer`; or the runner is closed.
            EngineError: the GPU failed.
        """
        if self._open is None:
            raise ValueError("the runner is closed.")
        check_images(images, self._size_px, self.max_batch_size)
        count = len(images)
        np.copyto(self._images.host[:count], images)
        self._images.upload(count)
        self._checked(self._context.set_input_shape(INPUT, images.shape), "set the batch")
        self._checked(self._context.execute_async_v3(int(self._stream)), "run")
        self._logits.download(count)
        synchronize(self._stream)
        logits: NDArray[np.float32] = self._logits.host[:count].copy()
        return logits

    def describe(self) -> dict[str, Any]:
        """JSON facts of the engine as it runs."""
        return {
            "backend": self.backend,
            "reason": self.reason,
            "threads": 1,
            "max_batch_size": self.max_batch_size,
            **self._facts,
        }

    def __enter__(self) -> TensorRTRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stack, self._open = self._open, None
        if stack is not None:
            stack.close()

    def _load(self, trt: Any, plan: bytes) -> None:
        """Deserialise. TensorRT frees each object with its last reference; the log goes last."""
        what = "TensorRT does not load the plan"
        try:
            self._runtime = trt.Runtime(self._log.handle)
        except TypeError:  # how the bindings say that a driver that fits is missing
            self._checked(None, "start")
        engine = self._runtime.deserialize_cuda_engine(plan)
        self._engine = self._log.checked(engine, what, REBUILD)
        self._context = self._log.checked(self._engine.create_execution_context(), what, REBUILD)

    def _unload(self) -> None:
        self._context = None
        self._engine = None
        self._runtime = None

    def _checked(self, result: Any, what: str) -> Any:
        return self._log.checked(result, f"TensorRT cannot {what}", "Look with nvidia-smi.")


def open_tensorrt_runner(
    artifact: Artifact,
    *,
    backend: str,
    max_batch_size: int,
    threads: int = 1,
    why_not: str = "",
) -> TensorRTRunner:
    """Open an artifact on the GPU, from the cached plan or from one that is built first.

    Args:
        artifact: its precision names the backend.
        backend: "auto", or "tensorrt-<precision>".
        max_batch_size: largest batch of the plan's profile; 0 takes what suits a GPU.
        threads: without effect: the GPU computes.
        why_not: for "auto": why no faster backend was taken.

    Raises:
        EngineError: no TensorRT, no GPU, another precision, or TensorRT refuses the model: says
            which.
        ArtifactError: model.onnx changed after it was verified.
    """
    try:
        return _open(artifact, backend, max_batch_size, why_not)
    except (AttributeError, RuntimeError, TypeError) as error:
        # What the bindings of a version that we have not met may raise; "auto" must survive it.
        raise EngineError(
            f"TensorRT fails in an unknown way ({type(error).__name__}: {plain(str(error))}).",
            "Take onnxruntime-cuda or onnxruntime-cpu, and report this.",
        ) from error


def _open(artifact: Artifact, backend: str, max_batch_size: int, why_not: str) -> TensorRTRunner:
    own = f"tensorrt-{artifact.precision}"
    if backend not in ("auto", own):
        raise EngineError(
            f"backend = {backend!r}: this artifact is {artifact.precision}, and runs as {own}.",
            f"Take backend {own}, or serve the artifact of that precision.",
        )
    installed_engine_libraries()
    gpu = find_gpu()  # before the library is imported, which is of use with a GPU alone
    library = find_engine_library()
    onnx = model_bytes(artifact)
    profile = Profile.up_to(largest_batch(own, max_batch_size))
    key = engine_key(library, gpu, sha256_of_bytes(onnx), artifact.precision, profile)
    auto = f"auto: {why_not or 'the fastest that works here'}"
    reason = "it was asked for" if backend == own else auto

    def build(timing_cache: bytes) -> BuiltEngine:
        target = gpu.sm if library.is_ahead_of_time else ""
        return build_engine(library, onnx, profile, gpu=target, timing_cache=timing_cache)

    cache = EngineCache(artifact.root / FOLDER)
    engine = cache.obtain(key, build)
    try:
        return TensorRTRunner(artifact, engine, library, gpu, reason=reason)
    except EngineError as error:
        if engine.origin == "built":
            raise
        engine = cache.rebuild(key, build, error.message)
        return TensorRTRunner(artifact, engine, library, gpu, reason=reason)


def engine_key(
    library: EngineLibrary, gpu: Gpu, onnx_sha256: str, precision: str, profile: Profile
) -> EngineKey:
    """What a plan of this library for this GPU is valid for."""
    return EngineKey(
        onnx_sha256=onnx_sha256,
        tensorrt_version=library.version,
        gpu_name=ANY_GPU if library.is_ahead_of_time else gpu.name,
        compute_capability=gpu.compute_capability,
        precision=precision,
        min_batch=profile.min_batch,
        opt_batch=profile.opt_batch,
        max_batch=profile.max_batch,
    )


def _facts(engine: CachedEngine, library: EngineLibrary, gpu: Gpu) -> dict[str, Any]:
    key = engine.key
    return {
        "library": library.version,
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "precision": key.precision,
        "profile": [key.min_batch, key.opt_batch, key.max_batch],
        "plan": key.file_name,
        "plan_sha256": engine.sha256,
        "plan_origin": engine.origin,
        "plan_note": engine.note,
    }


def _check_engine(trt: Any, engine: Any, artifact: Artifact, key: EngineKey) -> None:
    """The plan must be what its key and the artifact say: names, types, shapes, batch sizes."""
    side, count = artifact.preprocess.size_px, len(artifact.labels)
    expected = {
        INPUT: (trt.TensorIOMode.INPUT, trt.DataType.UINT8, (side, side, 3)),
        OUTPUT: (trt.TensorIOMode.OUTPUT, trt.DataType.FLOAT, (count,)),
    }
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {
        name: (
            engine.get_tensor_mode(name),
            engine.get_tensor_dtype(name),
            tuple(engine.get_tensor_shape(name))[1:],
        )
        for name in names
    }
    if found != expected:
        raise EngineError(f"The plan has {found}; expected {expected}.", REBUILD)
    batches = tuple(shape[0] for shape in engine.get_tensor_profile_shape(INPUT, 0))
    if batches != (key.min_batch, key.opt_batch, key.max_batch):
        raise EngineError(
            f"The plan takes batches {batches}, its key says "
            f"{(key.min_batch, key.opt_batch, key.max_batch)}.",
            REBUILD,
        )

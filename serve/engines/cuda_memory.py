"""CUDA without torch: the GPU that is here, a stream, and arrays that lie on both sides of the bus.

NVIDIA's own bindings (`cuda.bindings.runtime`) carry the CUDA runtime inside, so that nothing but
the driver must be found on the machine. Every call gives back an error code first; `_call` raises.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from serve.contract.errors import EngineError

__all__ = ["Gpu", "Mirror", "find_gpu", "open_mirror", "open_stream", "synchronize"]

DEVICE = 0  # which one that is, CUDA_VISIBLE_DEVICES says


@dataclass(frozen=True)
class Gpu:
    """The GPU that this process uses.

    Args:
        name: as the driver reports it.
        compute_capability: for example "8.6".
    """

    name: str
    compute_capability: str

    @property
    def sm(self) -> str:
        """The compute capability as TensorRT-RTX names it, for example "sm86"."""
        return "sm" + self.compute_capability.replace(".", "")

    @classmethod
    def of_sm(cls, sm: str) -> Gpu:
        """Any GPU of a compute capability: "sm120" is 12.0."""
        return cls(f"any {sm}", f"{sm[2:-1]}.{sm[-1]}")


@dataclass(frozen=True)
class Mirror:
    """One array twice: pinned in host memory, and on the GPU.

    Args:
        host: written before `upload`, read after `download` and `synchronize`. It must not be
            touched after the mirror is closed.
        device: address of the copy on the GPU.
        stream: on which the copies are ordered.
    """

    host: NDArray[Any]
    device: int
    stream: Any

    def upload(self, rows: int) -> None:
        """Start to copy the first rows to the GPU.

        Raises:
            EngineError: CUDA refuses.
        """
        size, kind = self.host[:rows].nbytes, _runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        _call("cudaMemcpyAsync", self.device, self.host.ctypes.data, size, kind, self.stream)

    def download(self, rows: int) -> None:
        """Start to copy the first rows to the host.

        Raises:
            EngineError: CUDA refuses.
        """
        size, kind = self.host[:rows].nbytes, _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call("cudaMemcpyAsync", self.host.ctypes.data, self.device, size, kind, self.stream)


def find_gpu() -> Gpu:
    """The GPU that this process uses.

    Raises:
        EngineError: cuda-bindings, a GPU, or a driver that fits is missing.
    """
    if not _call("cudaGetDeviceCount"):
        raise EngineError("No GPU is here.", "Look with nvidia-smi.")
    properties = _call("cudaGetDeviceProperties", DEVICE)
    name = properties.name
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return Gpu(text.rstrip("\0"), f"{properties.major}.{properties.minor}")


@contextmanager
def open_stream() -> Iterator[Any]:
    """A stream of its own; `int(stream)` is the handle that TensorRT takes.

    Raises:
        EngineError: CUDA refuses.
    """
    stream = _call("cudaStreamCreate")
    try:
        yield stream
    finally:
        _runtime().cudaStreamDestroy(stream)


@contextmanager
def open_mirror(shape: tuple[int, ...], dtype: DTypeLike, stream: Any) -> Iterator[Mirror]:
    """Memory for one array on both sides, freed on exit.

    Args:
        shape: of the array.
        dtype: of its elements.
        stream: for its copies.

    Raises:
        EngineError: there is not so much memory.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pinned = _call("cudaHostAlloc", size, 0)
    try:
        device = _call("cudaMalloc", size)
        try:
            raw = (ctypes.c_uint8 * size).from_address(int(pinned))
            host = np.ctypeslib.as_array(raw).view(dtype).reshape(shape)
            yield Mirror(host, int(device), stream)
        finally:
            _runtime().cudaFree(device)
    finally:
        _runtime().cudaFreeHost(pinned)


def synchronize(stream: Any) -> None:
    """Wait until all that was started on the stream is done.

    Raises:
        EngineError: something of it failed.
    """
    _call("cudaStreamSynchronize", stream)


def _runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(
            "cuda-bindings, by which the GPU is reached, is not installed.",
            'From a checkout: pip install ".[tensorrt]", or uv sync --extra tensorrt.',
        ) from error
    return runtime


def _call(function: str, *arguments: Any) -> Any:
    runtime = _runtime()
    error, *values = getattr(runtime, function)(*arguments)
    if error != runtime.cudaError_t.cudaSuccess:
        text = runtime.cudaGetErrorString(error)[1].decode()
        raise EngineError(
            f"CUDA cannot be used here: {function} says {error.name} ({text}).",
            "Look at driver and memory with nvidia-smi, or take onnxruntime-cpu.",
        )
    return values[0] if values else None

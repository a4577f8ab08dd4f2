"""A TensorRT, and the CUDA below it, that compute through ONNX Runtime on the CPU.

They show that our code calls the two libraries in the right order, with the right shapes, and gives
everything back. They show nothing about TensorRT. So that no run on them can pass for more:
library and GPU have names that say what they are (every report of a runner quotes both), a plan
begins with bytes that no TensorRT reads, and none of it is part of the package.
"""

from __future__ import annotations

import ctypes
import enum
import json
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np

FAKE_GPU = "NO GPU, a fake of the tests"
MAGIC = b"NOT A TENSORRT PLAN\n"


class Error(enum.Enum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorInvalidValue = 1  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815


class Copy(enum.Enum):
    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815


OK, INVALID = Error.cudaSuccess, Error.cudaErrorInvalidValue


class FakeCuda:
    """Stands for `cuda.bindings.runtime`.

    Work that is put on a stream happens when the stream is synchronised, not before: a caller that
    reads too early reads zeros. Reading or writing outside of what was allocated is an error.
    """

    cudaError_t = Error  # noqa: N815
    cudaMemcpyKind = Copy  # noqa: N815

    def __init__(self, *, gpus: int = 1, name: str = FAKE_GPU, capability: str = "8.6") -> None:
        self.gpus, self.name, self.capability = gpus, name, capability
        self.host: dict[int, Any] = {}
        self.device: dict[int, Any] = {}
        self.streams: dict[int, list[Callable[[], Error]]] = {}
        self.memory_bytes = 1 << 30
        self.fails = False

    @property
    def is_clean(self) -> bool:
        """Whether everything that was taken was given back."""
        return not (self.host or self.device or self.streams)

    def cudaGetDeviceCount(self):
        return OK, self.gpus

    def cudaGetDeviceProperties(self, device):
        major, minor = map(int, self.capability.split("."))
        return OK, SimpleNamespace(name=self.name.encode() + b"\0", major=major, minor=minor)

    def cudaGetErrorString(self, error):
        return OK, error.name.encode()

    def cudaStreamCreate(self):
        handle = 1 + max(self.streams, default=0)
        self.streams[handle] = []
        return OK, handle

    def cudaStreamDestroy(self, stream):
        del self.streams[stream]
        return (OK,)

    def cudaHostAlloc(self, size, flags):
        return self._allocate(self.host, size)

    def cudaMalloc(self, size):
        return self._allocate(self.device, size)

    def cudaFreeHost(self, address):
        del self.host[address]
        return (OK,)

    def cudaFree(self, address):
        del self.device[address]
        return (OK,)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        up = kind is Copy.cudaMemcpyHostToDevice
        spaces = (self.device, self.host) if up else (self.host, self.device)
        if not all(
            self._holds(space, at, size) for space, at in zip(spaces, (target, source), strict=True)
        ):
            return (INVALID,)

        def work() -> Error:
            ctypes.memmove(target, source, size)
            return OK

        self.streams[stream].append(work)
        return (OK,)

    def cudaStreamSynchronize(self, stream):
        queue, self.streams[stream] = self.streams[stream], []
        results = [work() for work in queue]
        return (
            Error.cudaErrorIllegalAddress
            if self.fails
            else next((r for r in results if r is not OK), OK),
        )

    def view(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """The device's memory as an array."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert self._holds(self.device, address, size), "outside of the device's memory"
        raw = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(raw, dtype=dtype).reshape(shape)

    def _allocate(self, space: dict[int, Any], size: int) -> tuple[Error, int | None]:
        used = sum(len(block) for block in (*self.host.values(), *self.device.values()))
        if used + size > self.memory_bytes:
            return Error.cudaErrorMemoryAllocation, None
        block = (ctypes.c_uint8 * size)()
        space[ctypes.addressof(block)] = block
        return OK, ctypes.addressof(block)

    @staticmethod
    def _holds(space: dict[int, Any], address: int, size: int) -> bool:
        return any(
            start <= address and address + size <= start + len(block)
            for start, block in space.items()
        )


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class ILogger:
    Severity = Severity

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = 0
    UINT8 = 1


class BuilderFlag(enum.Enum):
    TF32 = 0


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class ComputeCapability(enum.Enum):
    NONE = 0
    CURRENT = 1
    SM86 = 86
    SM89 = 89


TYPES = {"tensor(uint8)": DataType.UINT8, "tensor(float)": DataType.FLOAT}
NUMPY = {DataType.UINT8: np.uint8, DataType.FLOAT: np.float32}


def _session(onnx: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _tensor(entry: Any) -> SimpleNamespace:
    shape = tuple(size if isinstance(size, int) else -1 for size in entry.shape)
    return SimpleNamespace(name=entry.name, dtype=TYPES[entry.type], shape=shape)


class FakeTensorRT:
    """Stands for the module `tensorrt`, or for `tensorrt_rtx` where it builds ahead of time."""

    ILogger = ILogger
    TensorIOMode, DataType, BuilderFlag = TensorIOMode, DataType, BuilderFlag
    MemoryPoolType = MemoryPoolType
    NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag

    def __init__(
        self, cuda: FakeCuda, *, version: str = "0.0.0", ahead_of_time: bool = False
    ) -> None:
        self.__name__ = "fake_tensorrt_rtx" if ahead_of_time else "fake_tensorrt"
        self.__version__ = version
        self.cuda = cuda
        self.builds = 0
        self.timing_caches: list[bytes] = []  # what each build was given
        # "build" or "execute" fails; "answers" are wrong, or only those of "batches" of several.
        self.wrong: str = ""
        if ahead_of_time:
            self.ComputeCapability = ComputeCapability

    def Builder(self, log):
        return Builder(self, log)

    def OnnxParser(self, network, log):
        return OnnxParser(network)

    def Runtime(self, log):
        return Runtime(self, log)


class FakeMachine:
    """A machine with a GPU and TensorRT, both stand-ins. The fixture `fake_machine` gives one."""

    def __init__(self) -> None:
        self.use()

    def use(self, *, ahead_of_time: bool = False, version: str = "0.0.0", **gpu: Any) -> None:
        """Become another machine."""
        self.cuda = FakeCuda(**gpu)
        self.trt = FakeTensorRT(self.cuda, version=version, ahead_of_time=ahead_of_time)


class Builder:
    def __init__(self, trt: FakeTensorRT, log: ILogger) -> None:
        self.trt, self.log = trt, log

    def create_network(self, flags: int) -> SimpleNamespace:
        assert flags == 1 << 1, "not strongly typed"
        return SimpleNamespace(num_inputs=0, num_outputs=0)

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig(self.trt)

    def create_optimization_profile(self) -> SimpleNamespace:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(
            shapes=shapes, set_shape=lambda name, *sizes: shapes.update({name: sizes})
        )

    def build_serialized_network(self, network: Any, config: BuilderConfig) -> bytes | None:
        trt = self.trt
        trt.builds += 1
        if trt.wrong == "build":
            self.log.log(Severity.WARNING, "only a warning")
            self.log.log(Severity.ERROR, "no kernel fits, in /build/machine/kernels.cpp")
            return None
        ahead = hasattr(trt, "ComputeCapability")
        assert BuilderFlag.TF32 in config.cleared
        assert ahead == bool(config.capability)
        assert ahead != bool(config.workspace)
        if not ahead:
            config.cache.data = b"measured"
        capability = config.capability or trt.cuda.capability.replace(".", "")
        (profile,) = config.profiles
        header = {"version": trt.__version__, "sm": capability, "profile": profile.shapes}
        return MAGIC + json.dumps(header).encode() + b"\n" + network.onnx


class BuilderConfig:
    num_compute_capabilities = 0

    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt = trt
        self.workspace, self.capability = 0, ""
        self.cleared: set[BuilderFlag] = set()
        self.profiles: list[Any] = []
        self.cache = SimpleNamespace(data=b"", serialize=lambda: self.cache.data)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.workspace = size

    def create_timing_cache(self, data: bytes) -> Any:
        self.trt.timing_caches.append(data)
        self.cache.data = data
        return self.cache

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return cache.data in (b"", b"measured")

    def set_compute_capability(self, capability: ComputeCapability, index: int) -> None:
        assert (self.num_compute_capabilities, index) == (1, 0)
        self.capability = str(capability.value)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.cleared.add(flag)

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return 0


class OnnxParser:
    def __init__(self, network: Any) -> None:
        self.network = network
        self.errors: list[str] = []
        self.num_errors = 0

    def parse(self, onnx: bytes) -> bool:
        try:
            session = _session(onnx)
        except Exception as error:  # noqa: BLE001  # ONNX Runtime's exceptions share no base of their own
            self.errors, self.num_errors = [traceback.format_exception_only(error)[0]], 1
            return False
        inputs = [_tensor(entry) for entry in session.get_inputs()]
        outputs = [_tensor(entry) for entry in session.get_outputs()]
        self.network.onnx = onnx
        self.network.num_inputs, self.network.get_input = len(inputs), inputs.__getitem__
        self.network.num_outputs, self.network.get_output = len(outputs), outputs.__getitem__
        return True

    def get_error(self, index: int) -> Any:
        text = self.errors[index]
        return SimpleNamespace(
            desc=lambda: text, node_operator=lambda: "Conv", node_name=lambda: "node_7"
        )


class Runtime:
    def __init__(self, trt: FakeTensorRT, log: ILogger) -> None:
        self.trt, self.log = trt, log

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        trt = self.trt
        if not plan.startswith(MAGIC):
            self.log.log(Severity.ERROR, "the plan is damaged")
            return None
        header, onnx = plan[len(MAGIC) :].split(b"\n", 1)
        facts = json.loads(header)
        here = {"version": trt.__version__, "sm": trt.cuda.capability.replace(".", "")}
        for name, value in here.items():
            if facts[name] != value:
                self.log.log(Severity.ERROR, f"the plan is for {name} {facts[name]}, here {value}")
                return None
        return Engine(trt, self.log, onnx, facts["profile"])


class Engine:
    def __init__(self, trt: FakeTensorRT, log: ILogger, onnx: bytes, profile: Any) -> None:
        self.trt, self.log, self.profile = trt, log, profile
        self.session = _session(onnx)
        inputs = [_tensor(entry) for entry in self.session.get_inputs()]
        outputs = [_tensor(entry) for entry in self.session.get_outputs()]
        self.tensors = {tensor.name: tensor for tensor in (*inputs, *outputs)}
        self.inputs = {tensor.name for tensor in inputs}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert index == 0
        return [tuple(shape) for shape in self.profile[name]]

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.tensors

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.engine.profile[name]
        if not all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True)):
            self.engine.log.log(Severity.ERROR, f"{shape} is outside of the profile")
            return False
        self.shape = shape
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, cuda = self.engine, self.engine.trt.cuda
        if engine.trt.wrong == "execute" or self.addresses.keys() != engine.tensors.keys():
            engine.log.log(Severity.ERROR, "nothing was enqueued")
            return False
        shape = self.shape

        def work() -> Error:
            images = cuda.view(self.addresses["image"], shape, np.uint8)
            (logits,) = engine.session.run(None, {"image": images})
            if engine.trt.wrong == "answers":
                logits = -logits
            if engine.trt.wrong == "batches":
                logits = np.roll(logits, 1, axis=0)
            cuda.view(self.addresses["logits"], logits.shape, np.float32)[:] = logits
            return OK

        with suppress(KeyError):
            cuda.streams[stream_handle].append(work)
            return True
        return False

"""Building a TensorRT plan from an ONNX file: one path for `tensorrt` 10 and 11 and `tensorrt_rtx`.

    library = find_engine_library()
    built = build_engine(library, onnx, Profile(1, 8, 8))

It lies in serve/ because a server whose plan is missing or foreign builds its own. Networks are
strongly typed: the types in the file are the types that run, so precision is decided by whoever
wrote the file (fp16 nodes, Q/DQ pairs) and by no flag here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serve.contract.errors import EngineError
from serve.engines.library import EngineLibrary, EngineLog, plain

__all__ = ["BuiltEngine", "Profile", "TensorFacts", "build_engine"]

WORKSPACE_BYTES = 4 << 30  # the most scratch memory that one layer's kernel may take


@dataclass(frozen=True)
class Profile:
    """The batch sizes that a plan takes.

    Args:
        min_batch: smallest.
        opt_batch: the one that kernels are chosen for.
        max_batch: largest.
    """

    min_batch: int
    opt_batch: int
    max_batch: int

    @classmethod
    def up_to(cls, max_batch: int) -> Profile:
        """From 1, tuned for the largest: that is the batch of a server that is under load."""
        return cls(1, max_batch, max_batch)


@dataclass(frozen=True)
class TensorFacts:
    """An input or output of a plan.

    Args:
        name: as in the ONNX file.
        dtype: as TensorRT names it, for example "UINT8".
        shape: -1 where it depends on the batch.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BuiltEngine:
    """A plan that was just built, and never run.

    Args:
        plan: serialised engine.
        inputs: of the network it was built from.
        outputs: likewise.
        timing_cache: what was measured, for the next build on this GPU; empty where nothing is.
    """

    plan: bytes
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    timing_cache: bytes = b""


def build_engine(
    library: EngineLibrary,
    onnx: bytes,
    profile: Profile,
    *,
    gpu: str = "",
    timing_cache: bytes = b"",
) -> BuiltEngine:
    """Parse an ONNX file and compile it.

    Args:
        library: from `find_engine_library`.
        onnx: the file's bytes; weights inside.
        profile: batch sizes; each input's first dimension may depend on the batch, no other.
        gpu: compute capability to build for, such as "sm86"; only with an ahead-of-time library,
            and there always. Full TensorRT builds for the GPU that is present.
        timing_cache: of an earlier build with the same library and GPU; ignored where it does not
            fit.

    Raises:
        EngineError: TensorRT refuses the file, or cannot build it here; carries its own messages.
    """
    trt, log = library.module, library.open_log()
    builder = _builder(trt, log)
    # Weights may still be read from the parser's memory: the parser lives as long as the build.
    network, parser = _parse(trt, builder, onnx, log)
    config = log.checked(builder.create_builder_config(), "TensorRT gives no builder config")
    cache = None
    if library.is_ahead_of_time:
        _aim_at(library, config, gpu)
    else:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        cache = _use_timing_cache(config, timing_cache)
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 is fp32: 10-bit mantissas are what fp16 is for
    _add_profile(builder, config, network, profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        log.checked(plan, f"{library.version} cannot build the engine", _advice(log.errors))
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    del parser
    return BuiltEngine(
        bytes(plan),
        _facts(inputs),
        _facts(outputs),
        bytes(cache.serialize()) if cache is not None else b"",
    )


def _builder(trt: Any, log: EngineLog) -> Any:
    try:
        return trt.Builder(log.handle)
    except TypeError:  # how the bindings say that a driver that fits is missing
        return log.checked(None, f"{trt.__name__} cannot start", "Look with nvidia-smi.")


def _parse(trt: Any, builder: Any, onnx: bytes, log: EngineLog) -> tuple[Any, Any]:
    # TensorRT 11 and TensorRT-RTX know no other kind of network; TensorRT 10 must be told.
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = log.checked(builder.create_network(strongly_typed), "TensorRT gives no network")
    parser = trt.OnnxParser(network, log.handle)
    if not parser.parse(onnx):
        errors = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        errors = errors or log.errors or ["no reason given"]
        raise EngineError(
            f"TensorRT cannot parse model.onnx: {'; '.join(errors[:3])}.", _advice(errors)
        )
    return network, parser


def _parser_error(error: Any) -> str:
    """The parser's message, and the node it stands for: TensorRT 10 and later name it."""
    operator, node = error.node_operator(), error.node_name()
    # Beside the parser's own error, the checks that follow it complain that a GPU is missing.
    lines = [line for line in error.desc().splitlines() if "catchCudaError" not in line]
    text = plain(" ".join(lines)).rstrip(".")
    where = f"{operator} {node!r}" if node else operator
    return f"{text} ({where})" if where else text


def _advice(errors: list[str]) -> str:
    text = " ".join(errors)
    if "Int32 but must have type" in text:  # a dequantised bias
        return (
            "This int8 file is made for ONNX Runtime, whose biases are quantised too: build from "
            "the int8 artifact made for TensorRT, or serve this one on onnxruntime-cpu."
        )
    if "FP32 GEMM is not supported" in text:  # TensorRT-RTX on Turing
        return "This GPU needs another precision: stillroom export RUN --precision fp16"
    return "Export the artifact again, or serve it on onnxruntime-cuda or onnxruntime-cpu."


def _aim_at(library: EngineLibrary, config: Any, gpu: str) -> None:
    library.require_gpu(gpu)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(library.module.ComputeCapability, gpu.upper()), 0)


def _use_timing_cache(config: Any, data: bytes) -> Any:
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")  # of another GPU or version: start anew
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _add_profile(builder: Any, config: Any, network: Any, profile: Profile) -> None:
    shapes = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shape = tuple(tensor.shape)
        if any(size < 0 for size in shape[1:]):
            raise EngineError(
                f"Input {tensor.name!r} has shape {shape}: only the batch may be left open.",
                "Export the artifact again.",
            )
        sizes = (profile.min_batch, profile.opt_batch, profile.max_batch)
        shapes.set_shape(tensor.name, *((size, *shape[1:]) for size in sizes))
    config.add_optimization_profile(shapes)


def _facts(tensors: list[Any]) -> tuple[TensorFacts, ...]:
    return tuple(
        TensorFacts(tensor.name, tensor.dtype.name, tuple(tensor.shape)) for tensor in tensors
    )

"""Building plans: the logic on a stand-in, the real thing by TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from serve.contract.artifact import open_artifact
from serve.contract.errors import EngineError
from serve.engines.build import Profile, build_engine
from serve.engines.cuda_memory import find_gpu
from serve.engines.library import EngineLibrary, find_engine_library
from serve.runners.open import open_runner
from tests.serve import fake_tensorrt
from tests.serve.fake_tensorrt import FakeCuda, FakeTensorRT

PROFILE = Profile(1, 4, 8)


@pytest.fixture
def onnx(make_model) -> bytes:
    return make_model(0, 32, 4)


@pytest.fixture
def fake() -> EngineLibrary:
    return EngineLibrary(FakeTensorRT(FakeCuda()))


@pytest.fixture
def fake_rtx() -> EngineLibrary:
    return EngineLibrary(FakeTensorRT(FakeCuda(), ahead_of_time=True))


@pytest.fixture(scope="session")
def rtx() -> EngineLibrary:
    """The real TensorRT-RTX."""
    try:
        return find_engine_library(ahead_of_time=True)
    except EngineError as error:
        pytest.skip(str(error))


def test_full_tensorrt_measures_and_keeps_what_it_measured(
    fake: EngineLibrary, onnx: bytes
) -> None:
    built = build_engine(fake, onnx, PROFILE)
    assert built.timing_cache == b"measured"
    build_engine(fake, onnx, PROFILE, timing_cache=built.timing_cache)
    build_engine(fake, onnx, PROFILE, timing_cache=b"of another GPU")
    assert fake.module.timing_caches == [b"", b"measured", b"of another GPU", b""]
    assert fake.gpus == ()
    assert not fake.is_ahead_of_time


def test_tensorrt_rtx_has_no_timing_cache(fake_rtx: EngineLibrary, onnx: bytes) -> None:
    assert build_engine(fake_rtx, onnx, PROFILE, gpu="sm86").timing_cache == b""
    assert fake_rtx.module.timing_caches == []
    assert fake_rtx.gpus == ("sm86", "sm89")


def test_inputs_and_outputs_are_read_off_the_network(fake: EngineLibrary, onnx: bytes) -> None:
    built = build_engine(fake, onnx, PROFILE)
    assert [(t.name, t.dtype, t.shape) for t in built.inputs] == [
        ("image", "UINT8", (-1, 32, 32, 3))
    ]
    assert [(t.name, t.dtype, t.shape) for t in built.outputs] == [("logits", "FLOAT", (-1, 4))]


@pytest.mark.parametrize("gpu", ["", "sm90", "SM86", "h100"])
def test_an_unknown_gpu_is_refused_with_the_known_ones(
    fake_rtx: EngineLibrary, onnx: bytes, gpu: str
) -> None:
    with pytest.raises(EngineError, match=r"does not build for '.*'; it knows sm86, sm89\..*--gpu"):
        build_engine(fake_rtx, onnx, PROFILE, gpu=gpu)


def test_the_parser_speaks_for_itself(fake: EngineLibrary) -> None:
    with pytest.raises(EngineError, match=r"cannot parse model\.onnx: .*\(Conv 'node_7'\)\. Exp"):
        build_engine(fake, b"not a graph", PROFILE)


def test_an_error_while_building_is_what_tensorrt_logged(fake: EngineLibrary, onnx: bytes) -> None:
    fake.module.wrong = "build"
    with pytest.raises(EngineError, match="cannot build the engine: no kernel fits") as caught:
        build_engine(fake, onnx, PROFILE)
    assert "only a warning" not in str(caught.value)
    assert "/build" not in str(caught.value)


def test_bindings_that_cannot_start_are_an_error(
    fake: EngineLibrary, onnx: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pybind11 says so by a TypeError where the library gives no object."""

    def nothing(log: object) -> None:
        raise TypeError("factory function returned nullptr")

    monkeypatch.setattr(fake.module, "Builder", nothing, raising=False)
    with pytest.raises(EngineError, match="fake_tensorrt cannot start"):
        build_engine(fake, onnx, PROFILE)


@pytest.mark.parametrize("gpu", ["sm86", "sm89", "sm120"])
def test_tensorrt_rtx_builds_without_a_gpu(rtx: EngineLibrary, onnx: bytes, gpu: str) -> None:
    built = build_engine(rtx, onnx, PROFILE, gpu=gpu)
    assert len(built.plan) > 10_000
    assert [(t.name, t.dtype, t.shape) for t in built.inputs] == [
        ("image", "UINT8", (-1, 32, 32, 3))
    ]
    assert [(t.name, t.dtype, t.shape) for t in built.outputs] == [("logits", "FLOAT", (-1, 4))]


def test_tensorrt_rtx_refuses_what_is_no_model(rtx: EngineLibrary, onnx: bytes) -> None:
    for data in (b"not a graph", onnx[: len(onnx) // 2]):
        with pytest.raises(EngineError, match=r"cannot parse model\.onnx: .*parse the ONNX"):
            build_engine(rtx, data, PROFILE, gpu="sm86")


def test_tensorrt_rtx_names_the_node_it_refuses(rtx: EngineLibrary) -> None:
    with pytest.raises(EngineError, match=r"\(Twirl 'twist'\)"):
        build_engine(rtx, _one_node("Twirl", domain="their.own"), PROFILE, gpu="sm86")


def test_int8_made_for_onnxruntime_is_refused_with_the_other_one(rtx: EngineLibrary) -> None:
    with pytest.raises(EngineError, match=r"int8 artifact made for TensorRT") as caught:
        build_engine(rtx, _quantised_bias(), PROFILE, gpu="sm86")
    assert "input has type Int32 but must have type" in caught.value.message
    assert "cudaError" not in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.message.endswith("(DequantizeLinear).")


def test_tensorrt_rtx_refuses_a_gpu_it_does_not_know(rtx: EngineLibrary, onnx: bytes) -> None:
    with pytest.raises(EngineError, match=r"does not build for 'sm60'; it knows .*sm86"):
        build_engine(rtx, onnx, PROFILE, gpu="sm60")


def test_a_plan_of_tensorrt_rtx_is_not_run_without_a_gpu(
    rtx: EngineLibrary, artifact_copy: Path
) -> None:
    with suppress(EngineError):
        pytest.skip(f"{find_gpu().name} is here")
    with pytest.raises(EngineError, match=r"CUDA cannot be used here|No GPU is here"):
        open_runner(open_artifact(artifact_copy), backend="tensorrt-fp32")
    assert not (artifact_copy / "engines").exists()


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (fake_tensorrt.Builder, "Builder"),
        (fake_tensorrt.BuilderConfig, "IBuilderConfig"),
        (fake_tensorrt.OnnxParser, "OnnxParser"),
        (fake_tensorrt.Runtime, "Runtime"),
        (fake_tensorrt.Engine, "ICudaEngine"),
        (fake_tensorrt.Context, "IExecutionContext"),
        (fake_tensorrt.DataType, "DataType"),
        (fake_tensorrt.TensorIOMode, "TensorIOMode"),
        (fake_tensorrt.BuilderFlag, "BuilderFlag"),
        (fake_tensorrt.MemoryPoolType, "MemoryPoolType"),
        (fake_tensorrt.ComputeCapability, "ComputeCapability"),
    ],
)
def test_the_stand_in_invents_no_names(rtx: EngineLibrary, fake: type, real: str) -> None:
    assert _public(fake) <= _public(getattr(rtx.module, real))


def test_the_stand_in_for_cuda_invents_no_names() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    assert {name for name in _public(FakeCuda) if name.startswith("cuda")} <= _public(runtime)
    assert _public(fake_tensorrt.Error) <= _public(runtime.cudaError_t)
    assert _public(fake_tensorrt.Copy) <= _public(runtime.cudaMemcpyKind)


def _public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.mark.tensorrt
@pytest.mark.gpu
def test_full_tensorrt_builds_for_the_gpu_that_is_here(onnx: bytes) -> None:
    try:
        library = find_engine_library()
    except EngineError as error:
        pytest.skip(str(error))
    if library.is_ahead_of_time:
        pytest.skip("only TensorRT-RTX is installed")
    first = build_engine(library, onnx, PROFILE)
    again = build_engine(library, onnx, PROFILE, timing_cache=first.timing_cache)
    assert first.plan
    assert first.timing_cache
    assert again.inputs == first.inputs


def _one_node(operator: str, domain: str) -> bytes:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node(operator, ["image"], ["logits"], name="twist", domain=domain)],
        "one node",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def _quantised_bias() -> bytes:
    """A Gemm with a dequantised int32 bias, as ONNX Runtime's quantiser writes it."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "scale": np.float32(0.1),
        "zero": np.int32(0),
        "bias_int": np.arange(4, dtype=np.int32),
        "weight": np.eye(4, dtype=np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["bias_int", "scale", "zero"], ["bias"]),
        helper.make_node("Gemm", ["image", "weight", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised bias",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString())

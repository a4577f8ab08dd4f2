from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export.onnx_graph import check_structure
from export.precision.quantize import Target, write_int8
from serve.contract.errors import UsageError
from tests.export.conftest import Exported
from tests.export.toy_graph import (
    DEPTHWISE,
    POINTWISE,
    PROPERTIES,
    STEM,
    images,
    logits_of,
    snr_db,
    write_toy_graph,
)
from train.loader.views import pixels_of

SOURCE = Path(__file__).parents[3]
TARGETS: tuple[Target, ...] = ("onnxruntime", "tensorrt")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_graph(tmp_path_factory.mktemp("toy") / "model.onnx", uneven=30)


def _weights_of(path: Path, name: str) -> list[onnx.TensorProto]:
    """The quantised weight of a layer and its scale and zero point; empty where it is in float."""
    model = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    layer = next(node for node in model.graph.node if node.name == name)
    before = producers.get(layer.input[1])
    return [] if before is None else [tensors[name] for name in before.input]


@pytest.mark.usefixtures("exact_int8")
@pytest.mark.parametrize("target", TARGETS)
def test_the_answers_of_a_trained_network_survive(
    exported: Exported, tmp_path: Path, target: Target
) -> None:
    dataset, card, path = exported.dataset, exported.card, tmp_path / "int8.onnx"
    training = dataset.of_split("train")[:24]
    write_int8(
        exported.graph,
        path,
        pixels_of(dataset.root, training, card.preprocess),
        target=target,
    )
    pixels = pixels_of(dataset.root, exported.reference.photos[:96], card.preprocess)
    reference, found = logits_of(exported.graph, pixels), logits_of(path, pixels)
    assert snr_db(reference, found) > 15
    assert (found.argmax(1) == reference.argmax(1)).mean() > 0.9
    check_structure(path, card, opset=20)
    assert path.stat().st_size < 0.7 * exported.graph.stat().st_size


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layer", [STEM, DEPTHWISE, POINTWISE, "head"])
def test_each_channel_has_a_scale(source: Path, tmp_path: Path, target: Target, layer: str) -> None:
    write_int8(source, tmp_path / "int8.onnx", images(16), target=target)
    weight, scale, zero = map(numpy_helper.to_array, _weights_of(tmp_path / "int8.onnx", layer))
    assert weight.dtype == zero.dtype == np.int8
    assert scale.shape == zero.shape == (len(weight),)
    assert len(np.unique(scale)) == len(weight)
    assert not zero.any()
    tensors = {t.name: t for t in onnx.load(source).graph.initializer}
    exact = numpy_helper.to_array(tensors[f"{layer}.weight"])
    each = scale.reshape(-1, *[1] * (exact.ndim - 1))
    assert (np.abs(weight * each - exact) <= each * 0.51).all()


def test_activations_and_biases_are_as_the_target_wants_them(source: Path, tmp_path: Path) -> None:
    kinds = {}
    for target in TARGETS:
        path = tmp_path / f"{target}.onnx"
        write_int8(source, path, images(16), target=target)
        model = onnx.load(path)
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        quantise = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
        zeros = [tensors[node.input[2]] for node in quantise]
        kinds[target] = {zero.data_type for zero in zeros}
        biases = [tensor for tensor in tensors.values() if tensor.data_type == TensorProto.INT32]
        assert bool(biases) == (target == "onnxruntime")
        if target == "tensorrt":  # its parser takes no zero point but 0
            assert not any(numpy_helper.to_array(zero).any() for zero in zeros)
    assert kinds == {"onnxruntime": {TensorProto.UINT8}, "tensorrt": {TensorProto.INT8}}


@pytest.mark.usefixtures("exact_int8")
@pytest.mark.parametrize("target", TARGETS)
def test_pixels_and_logits_stay_in_float(source: Path, tmp_path: Path, target: Target) -> None:
    write_int8(source, tmp_path / "int8.onnx", images(16), target=target)
    nodes = onnx.load(tmp_path / "int8.onnx").graph.node
    producers = {output: node for node in nodes for output in node.output}
    assert producers["logits"].name == "head"
    quantise = producers["normal_QuantizeLinear_Output"]  # the first of all: after the last of
    chain = [producers[quantise.input[0]]]  # the normalisation
    while chain[-1].input[0] != "image":
        chain.append(producers[chain[-1].input[0]])
    assert [node.op_type for node in chain] == ["Add", "Mul", "Transpose", "Cast"]
    logits = logits_of(tmp_path / "int8.onnx", images(64, seed=5))
    assert len(np.unique(logits[:, 0])) == 64  # not in 256 steps


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_kept_in_float_has_neither_q_nor_dq(
    source: Path, tmp_path: Path, target: Target
) -> None:
    path = tmp_path / "int8.onnx"
    write_int8(source, path, images(16), target=target, keep_float=[POINTWISE])
    assert not _weights_of(path, POINTWISE)
    assert _weights_of(path, STEM)
    names = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert names["pointwise.weight"] == names["pointwise.bias"] == TensorProto.FLOAT


@pytest.mark.parametrize("name", [DEPTHWISE, "dw.clip"])
def test_a_layer_and_its_clip_stay_together(source: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "int8.onnx"
    write_int8(source, path, images(16), keep_float=[name])
    nodes = {node.name: node for node in onnx.load(path).graph.node}
    assert not _weights_of(path, DEPTHWISE)
    assert nodes["dw.clip"].input[0] == "depthwise.out"
    assert "stem.clip" not in nodes  # int8 saturates where it would clip


@pytest.mark.usefixtures("exact_int8")
def test_the_runtime_does_not_quantise_what_is_kept(source: Path, tmp_path: Path) -> None:
    """ONNX Runtime would, with one scale for 8 filters that differ 30-fold."""
    path, pixels = tmp_path / "int8.onnx", images(64, seed=3)
    write_int8(source, path, images(32), keep_float=[DEPTHWISE])
    reference = logits_of(source, pixels)
    guarded = snr_db(reference, logits_of(path, pixels))
    assert guarded == pytest.approx(
        snr_db(reference, logits_of(path, pixels, optimised=False)), abs=1
    )
    model = onnx.load(path)
    for node in model.graph.node:
        if node.name == DEPTHWISE:
            guard = next(other for other in model.graph.node if node.input[0] in other.output)
            assert guard.op_type == "Clip"
            node.input[0] = guard.input[0]
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(model.SerializeToString())
    assert snr_db(reference, logits_of(bare, pixels)) < guarded - 3


def test_everything_kept_is_the_fp32_file_again(source: Path, tmp_path: Path) -> None:
    names = [node.name for node in onnx.load(source).graph.node]
    write_int8(source, tmp_path / "int8.onnx", images(16), keep_float=names)
    pixels = images(16, seed=2)
    assert snr_db(logits_of(source, pixels), logits_of(tmp_path / "int8.onnx", pixels)) > 100


def test_noise_is_no_calibration(source: Path, tmp_path: Path) -> None:
    dark = (images(32) // 16).astype(np.uint8)
    write_int8(source, tmp_path / "good.onnx", images(32))
    write_int8(source, tmp_path / "bad.onnx", dark)
    pixels = images(64, seed=1)
    reference = logits_of(source, pixels)
    good, bad = (
        snr_db(reference, logits_of(tmp_path / f"{name}.onnx", pixels)) for name in ("good", "bad")
    )
    assert good > 20 > bad + 6


def test_two_processes_write_equal_bytes_and_nothing_else(source: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", images(12))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = (
        "import sys; import numpy as np; from pathlib import Path; "
        "from export.precision.quantize import write_int8; "
        f"write_int8(Path({str(source)!r}), Path(sys.argv[1]), np.load(sys.argv[2])); "
        "assert 'torch' not in sys.modules; assert not any('transformers' in p for p in sys.path)"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / f"{seed}.onnx", tmp_path / "pixels.npy"],
            capture_output=True,
            text=True,
            cwd=SOURCE,
            env={"PYTHONHASHSEED": seed, "TMPDIR": str(scratch), "PYTHONPATH": str(SOURCE)},
            check=True,
        )
        assert (done.stdout, done.stderr) == ("", "")
    data = (tmp_path / "1.onnx").read_bytes()
    assert data == (tmp_path / "2.onnx").read_bytes()
    assert str(tmp_path).encode() not in data
    assert not [path for path in scratch.iterdir() if path.name != ".ses"]  # the runtime's own
    assert {path.name for path in source.parent.iterdir()} == {"model.onnx"}
    model = onnx.load(tmp_path / "1.onnx")
    assert {entry.key: entry.value for entry in model.metadata_props} == PROPERTIES
    assert model.producer_name == "stillroom"


def test_stored_ranges_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.json"
    for name in ("one", "two"):
        write_int8(source, tmp_path / f"{name}.onnx", images(12), ranges=ranges)
    write_int8(source, tmp_path / "three.onnx", images(12))
    assert ranges.exists()
    assert len({(tmp_path / f"{n}.onnx").read_bytes() for n in ("one", "two", "three")}) == 1


def test_a_read_only_source_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    source = write_toy_graph(folder / "model.onnx")
    before = source.read_bytes()
    write_int8(source, tmp_path / "int8.onnx", images(4))
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    assert source.read_bytes() == before


def test_nothing_is_logged_or_printed(
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.WARNING):
        write_int8(source, tmp_path / "int8.onnx", images(4))
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_quantised_is_refused(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    with pytest.raises(ValueError, match=r"uint8 \(0, 16, 16, 3\); expected uint8 \(1 or more, 16"):
        write_int8(source, path, images(4)[:0])
    with pytest.raises(ValueError, match=r"float32 \(4, 16, 16, 3\); expected"):
        write_int8(source, path, images(4).astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"uint8 \(4, 8, 16, 3\); expected"):
        write_int8(source, path, images(4)[:, :8])
    with pytest.raises(ValueError, match="keep_float names no node of the graph: stemm"):
        write_int8(source, path, images(4), keep_float=["stemm"])
    assert not path.exists()
    write_int8(source, path, images(4))
    with pytest.raises(UsageError, match=r"DequantizeLinear, QuantizeLinear.*Give the fp32"):
        write_int8(path, tmp_path / "again.onnx", images(4))


def test_nodes_without_names_get_some(source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    for node in model.graph.node:
        node.name = "same" if node.op_type == "Conv" else ""
    nameless = tmp_path / "nameless.onnx"
    nameless.write_bytes(model.SerializeToString())
    write_int8(nameless, tmp_path / "int8.onnx", images(8), keep_float=["Conv__8"])
    assert not _weights_of(tmp_path / "int8.onnx", "Conv__8")
    assert _weights_of(tmp_path / "int8.onnx", "same")

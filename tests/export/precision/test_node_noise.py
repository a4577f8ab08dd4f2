from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from export.precision.layer_sensitivity import sensitivity_of_nodes
from export.precision.node_noise import noise_of_nodes, snr_of_sums
from export.precision.quantize import write_int8
from tests.export.conftest import Exported
from tests.export.toy_graph import (
    DEPTHWISE,
    POINTWISE,
    STEM,
    images,
    logits_of,
    snr_db,
    write_toy_graph,
)
from tests.train.toy import PATIENT
from train.loader.views import pixels_of


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_graph(tmp_path_factory.mktemp("toy") / "model.onnx")


@pytest.fixture(scope="module")
def quantised(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "int8.onnx"
    write_int8(source, path, images(32))
    return path


def _damage(path: Path, name: str, out: Path) -> Path:
    """A quarter of a layer's int8 weights become 0."""
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == f"{name}.weight_quantized")
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[::4] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    out.write_bytes(model.SerializeToString())
    return out


def test_the_noise_is_that_of_the_outputs(source: Path, quantised: Path) -> None:
    pixels = images(11, seed=4)
    found = {node.name: node for node in noise_of_nodes(source, quantised, pixels)}
    assert set(found) >= {STEM, DEPTHWISE, POINTWISE, "head"}
    logits = snr_db(logits_of(source, pixels), logits_of(quantised, pixels, optimised=False))
    assert found["head"].snr_db == pytest.approx(logits, abs=0.05)
    assert found["head"].op_type == "Gemm"
    assert all(10 < node.snr_db < 60 for node in found.values())


def test_the_worst_node_comes_first(source: Path, quantised: Path, tmp_path: Path) -> None:
    for name in (STEM, POINTWISE):
        damaged = _damage(quantised, name, tmp_path / "damaged.onnx")
        noise = noise_of_nodes(source, damaged, images(8))
        values = [node.snr_db for node in noise]
        assert values == sorted(values)
        before = {node.name: node.snr_db for node in noise_of_nodes(source, quantised, images(8))}
        after = {node.name: node.snr_db for node in noise}
        assert after[name] < before[name] - 5
    assert after[STEM] == before[STEM]  # what comes after a node is none of its noise


def test_as_many_nodes_as_a_real_network_has(exported: Exported, tmp_path: Path) -> None:
    training = exported.dataset.of_split("train")[:16]
    pixels = pixels_of(exported.dataset.root, training, exported.card.preprocess)
    write_int8(exported.graph, tmp_path / "int8.onnx", pixels)
    noise = noise_of_nodes(exported.graph, tmp_path / "int8.onnx", pixels)
    convs = [n.name for n in onnx.load(exported.graph).graph.node if n.op_type == "Conv"]
    assert {node.name for node in noise} >= set(convs)
    assert all(math.isfinite(node.snr_db) for node in noise)
    assert noise[0].to_dict().keys() == {"name", "op_type", "snr_db"}


def test_nothing_to_compare_is_said(source: Path, quantised: Path) -> None:
    with pytest.raises(ValueError, match=r"0 images, .* nothing to compare"):
        noise_of_nodes(source, quantised, images(1)[:0])
    with pytest.raises(ValueError, match="0 quantised nodes: nothing to compare"):
        noise_of_nodes(source, source, images(1))


@PATIENT
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_the_ratio_has_no_scale(signal: float, noise: float, scale: float) -> None:
    assert snr_of_sums(signal * scale, noise * scale) == pytest.approx(
        snr_of_sums(signal, noise), abs=0.02
    )
    assert snr_of_sums(signal, 10 * noise) == pytest.approx(
        snr_of_sums(signal, noise) - 10, abs=0.02
    )


def test_the_ratio_of_nothing() -> None:
    assert snr_of_sums(1.0, 0.0) == 999
    assert snr_of_sums(0.0, 1.0) < -250
    assert snr_of_sums(1.0, math.inf) == snr_of_sums(1.0, math.nan) == -999


# ---- harm to the logits


def test_harm_is_that_of_one_node_alone(source: Path, tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.json"
    harm = sensitivity_of_nodes(
        source, images(32), nodes=[STEM, DEPTHWISE, POINTWISE, "flatten", "add"], ranges=ranges
    )
    found = {node.name: node.snr_db for node in harm}
    assert found.keys() == {STEM, DEPTHWISE, POINTWISE}  # a move or the normalisation has none
    assert list(found.values()) == sorted(found.values())
    names = [node.name for node in onnx.load(source).graph.node]
    rest = [name for name in names if name not in {STEM, "stem.clip"}]
    write_int8(source, tmp_path / "stem.onnx", images(32), keep_float=rest)
    asked = images(32)[::2]
    alone = snr_db(logits_of(source, asked), logits_of(tmp_path / "stem.onnx", asked))
    assert found[STEM] == pytest.approx(alone, abs=0.02)


def test_a_layer_that_int8_ruins_is_the_worst(tmp_path: Path) -> None:
    source = write_toy_graph(tmp_path / "model.onnx")
    model = onnx.load(source)
    weight = next(t for t in model.graph.initializer if t.name == "pointwise.weight")
    values = numpy_helper.to_array(weight).copy()
    values[:, 0] *= 300  # of a channel that is nearly always 0: the others get no steps
    depthwise = next(t for t in model.graph.initializer if t.name == "depthwise.weight")
    bias = next(t for t in model.graph.initializer if t.name == "depthwise.bias")
    filters, biases = numpy_helper.to_array(depthwise).copy(), numpy_helper.to_array(bias).copy()
    filters[0], biases[0] = 0, 0
    for tensor, changed in ((weight, values), (depthwise, filters), (bias, biases)):
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed), tensor.name))
    source.write_bytes(model.SerializeToString())
    harm = sensitivity_of_nodes(
        source,
        images(32),
        nodes=[STEM, DEPTHWISE, POINTWISE, "head"],
        ranges=tmp_path / "ranges.json",
    )
    assert harm[0].name == POINTWISE
    assert harm[0].snr_db < harm[1].snr_db - 10

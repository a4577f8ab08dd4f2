from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.onnx_graph import check_structure
from export.precision.fp16 import write_fp16
from serve.contract.errors import GateError, UsageError
from tests.export.conftest import Exported
from tests.export.toy_graph import PROPERTIES, images, logits_of, snr_db, write_toy_graph
from tests.train.toy import SIZE_PX
from train.loader.views import pixels_of


def test_the_answers_are_those_of_fp32_at_half_the_size(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "fp16.onnx"
    write_fp16(exported.graph, path)
    pixels = pixels_of(
        exported.dataset.root, exported.reference.photos[:64], exported.card.preprocess
    )
    reference, found = logits_of(exported.graph, pixels), logits_of(path, pixels)
    assert snr_db(reference, found) > 40
    flips = found.argmax(1) != reference.argmax(1)
    ordered = np.sort(reference, axis=1)
    assert (ordered[flips, -1] - ordered[flips, -2] < 0.05).all()
    assert path.stat().st_size < 0.65 * exported.graph.stat().st_size
    check_structure(path, exported.card, opset=20)  # uint8 in, float32 out, no path in it


def test_extreme_pixels_do_not_overflow(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "fp16.onnx"
    write_fp16(exported.graph, path)
    for level in (0, 1, 127, 128, 255):
        pixels = np.full((1, SIZE_PX, SIZE_PX, 3), level, np.uint8)
        reference, found = logits_of(exported.graph, pixels), logits_of(path, pixels)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, reference, atol=0.02 * np.abs(reference).max())


def test_two_writes_are_equal_and_leave_nothing_else(tmp_path: Path) -> None:
    source = write_toy_graph(tmp_path / "model.onnx")
    before = source.read_bytes()
    write_fp16(source, tmp_path / "one.onnx")
    write_fp16(source, tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert source.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "one.onnx", "two.onnx"}
    model = onnx.load(tmp_path / "one.onnx")
    assert {entry.key: entry.value for entry in model.metadata_props} == PROPERTIES
    assert model.producer_name == "stillroom"


def test_an_operator_that_stays_in_fp32_is_still_in_order(tmp_path: Path) -> None:
    source = write_toy_graph(tmp_path / "model.onnx")
    model = onnx.load(source)
    node = next(node for node in model.graph.node if node.name == "flatten")
    node.input[0] = "capped"  # Min is on the converter's list of operators without fp16
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e4), "cap"))
    position = list(model.graph.node).index(node)
    model.graph.node.insert(position, helper.make_node("Min", ["pooled", "cap"], ["capped"], "min"))
    source.write_bytes(model.SerializeToString())
    write_fp16(source, tmp_path / "fp16.onnx")
    half = onnx.load(tmp_path / "fp16.onnx")
    onnx.checker.check_model(half, full_check=True)
    assert sum(node.op_type == "Cast" for node in half.graph.node) > 2
    pixels = images(8)
    assert snr_db(logits_of(source, pixels), logits_of(tmp_path / "fp16.onnx", pixels)) > 40


def test_a_weight_beyond_fp16_is_seen_in_the_answers(tmp_path: Path) -> None:
    source = write_toy_graph(tmp_path / "model.onnx")
    model = onnx.load(source)
    weight = next(t for t in model.graph.initializer if t.name == "head.weight")
    values = numpy_helper.to_array(weight) * np.float32(1e6)
    weight.CopyFrom(numpy_helper.from_array(values, "head.weight"))
    source.write_bytes(model.SerializeToString())
    write_fp16(source, tmp_path / "fp16.onnx")
    pixels = images(8)
    found = logits_of(tmp_path / "fp16.onnx", pixels)
    assert not np.isfinite(found).all() or snr_db(logits_of(source, pixels), found) < 20


def test_only_an_fp32_file_is_converted(tmp_path: Path) -> None:
    source = write_toy_graph(tmp_path / "model.onnx")
    write_fp16(source, tmp_path / "fp16.onnx")
    with pytest.raises(UsageError, match=r"16-bit weights.*Give the fp32 model.onnx"):
        write_fp16(tmp_path / "fp16.onnx", tmp_path / "again.onnx")
    with pytest.raises(UsageError, match=r"missing.onnx cannot be read as an ONNX file"):
        write_fp16(tmp_path / "missing.onnx", tmp_path / "again.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\xffno graph")
    with pytest.raises(UsageError, match=r"broken.onnx cannot be read .* Export it again"):
        write_fp16(tmp_path / "broken.onnx", tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx").exists()


def test_a_file_with_float16_outputs_would_be_refused(exported: Exported, tmp_path: Path) -> None:
    write_fp16(exported.graph, tmp_path / "fp16.onnx")
    model = onnx.load(tmp_path / "fp16.onnx")
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    (tmp_path / "fp16.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(GateError, match="PARITY FAIL structure"):
        check_structure(tmp_path / "fp16.onnx", exported.card, opset=20)

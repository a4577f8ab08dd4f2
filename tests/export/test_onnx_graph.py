from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import export.onnx_graph
from export.onnx_graph import check_structure, write_graph
from serve.contract.errors import GateError, StillroomError
from serve.contract.preprocess import PreprocessSpec
from tests.export.conftest import Exported
from tests.train.toy import SIZE_PX, card_of, same_tensors, state_of, toy_model
from train.models.checkpoint import ModelCard


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(
        0, 256, (count, SIZE_PX, SIZE_PX, 3), dtype=np.uint8
    )


def test_equal_weights_give_equal_bytes(exported: Exported, tmp_path: Path) -> None:
    model = exported.model
    before = state_of(model)
    write_graph(model, exported.card, tmp_path / "again.onnx", opset=20)
    assert (tmp_path / "again.onnx").read_bytes() == exported.graph.read_bytes()
    assert same_tensors(state_of(model), before)
    assert list(tmp_path.iterdir()) == [tmp_path / "again.onnx"]  # no external data


def test_the_graph_passes_its_own_check(exported: Exported) -> None:
    check_structure(exported.graph, exported.card, opset=20)


def test_the_graph_takes_batches_of_any_size_and_answers_as_the_model(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.graph, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    assert (entry.name, entry.type, entry.shape[1:]) == (
        "image",
        "tensor(uint8)",
        [SIZE_PX, SIZE_PX, 3],
    )
    for count in (1, 2, 5):
        images = _images(count)
        (logits,) = session.run(["logits"], {"image": images})
        with torch.inference_mode():
            expected = exported.model(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_graph_says_what_it_is_and_not_where_it_was_made(exported: Exported) -> None:
    model = onnx.load(exported.graph)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["labels"] == "aster\nbell\nclover"
    assert properties["arch"] == "test_efficientnet"
    assert properties["preprocess_digest"] == exported.card.preprocess.digest
    assert model.producer_name == "stillroom"
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    data = exported.graph.read_bytes()
    for trace in (str(Path(torch.__file__).parent), str(Path.cwd()), str(Path.home()), ".py"):
        assert trace.encode() not in data


@pytest.mark.ci
def test_attention_is_exported_unfused_with_equal_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy_model(1, arch="test_vit")
    assert any(getattr(module, "fused_attn", False) for module in model.modules())
    card = ModelCard.of(
        model,
        labels=("a", "b", "c"),
        preprocess=PreprocessSpec(SIZE_PX, 1.0),
        train_size_px=SIZE_PX,
        dataset_digest="",
    )
    write_graph(model, card, tmp_path / "plain.onnx", opset=20)
    monkeypatch.setattr(export.onnx_graph, "without_fused_attention", lambda backbone: backbone)
    write_graph(model, card, tmp_path / "fused.onnx", opset=20)
    plain, fused = (onnx.load(tmp_path / f"{name}.onnx") for name in ("plain", "fused"))
    assert len(plain.graph.node) < 0.85 * len(fused.graph.node)
    assert any(getattr(module, "fused_attn", False) for module in model.modules())  # still
    images = _images(4)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    for graph in (plain, fused):
        session = onnxruntime.InferenceSession(
            graph.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        np.testing.assert_allclose(
            session.run(["logits"], {"image": images})[0], expected, atol=1e-5
        )


def test_what_torch_cannot_export_is_said_by_name(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no such operator\nand much more")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(StillroomError) as caught:
        write_graph(exported.model, exported.card, tmp_path / "model.onnx", opset=20)
    assert caught.value.message == (
        "torch cannot export test_efficientnet to ONNX (NotImplementedError: no such operator)."
    )
    assert "another arch" in caught.value.next_step


# ---- planted faults


def _fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def _float_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def _planar_input(model: onnx.ModelProto) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, value in zip(list(dims)[1:], (3, SIZE_PX, SIZE_PX), strict=True):
        dim.dim_value = value


def _second_output(model: onnx.ModelProto) -> None:
    model.graph.output.add().CopyFrom(helper.make_tensor_value_info("more", 1, ["N", 3]))
    model.graph.node.append(helper.make_node("Identity", ["logits"], ["more"]))


def _old_opset(model: onnx.ModelProto) -> None:
    next(entry for entry in model.opset_import if not entry.domain).version = 19


def _custom_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("Odd", ["logits"], ["odd"], domain="com.example"))


def _missing_node(model: onnx.ModelProto) -> None:
    del model.graph.node[0]


def _path(model: onnx.ModelProto) -> None:
    model.graph.node[3].doc_string = 'File "/home/someone/model.py", line 3'


def _windows_path(model: onnx.ModelProto) -> None:
    model.graph.doc_string = r"made in C:\Users\someone"


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (_fixed_batch, r"inputs \[\('image', 2, \[2, 32, 32, 3\]\)\], expected .*None, 32, 32, 3"),
        (_float_input, r"inputs \[\('image', 1, .* expected \[\('image', 2, "),
        (_planar_input, r"inputs .*\[None, 3, 32, 32\].*, expected .*\[None, 32, 32, 3\]"),
        (_second_output, r"outputs .*'more'.*, expected \[\('logits', 1, \[None, 3\]\)\]"),
        (_old_opset, "opset 19, asked for 20"),
        (_custom_operator, r"custom operators of com\.example"),
        (_missing_node, "onnx.checker: "),
        (_path, "an absolute path of the machine that wrote it: .*/home/someone/model.py"),
        (_windows_path, "an absolute path of the machine that wrote it"),
        (_external, "external data"),
    ],
    ids=lambda value: getattr(value, "__name__", "")[1:],
)
def test_a_structural_fault_is_found_and_named(
    exported: Exported, tmp_path: Path, plant: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx.load(exported.graph)
    plant(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GateError, match="PARITY FAIL structure: ") as caught:
        check_structure(path, exported.card, opset=20)
    assert re.search(message, caught.value.message), caught.value.message


def test_a_graph_of_other_labels_is_found(exported: Exported) -> None:
    card = replace(exported.card, labels=("a", "b", "c", "d"))
    with pytest.raises(GateError, match=r"\[None, 3\].*expected .*\[None, 4\]"):
        check_structure(exported.graph, card, opset=20)


def test_weights_that_happen_to_spell_a_path_are_no_path(
    exported: Exported, tmp_path: Path
) -> None:
    model = onnx.load(exported.graph)
    tensor = max(model.graph.initializer, key=lambda entry: len(entry.raw_data))
    text = rb" C:\x /a/b.py "
    tensor.raw_data = text + tensor.raw_data[len(text) :]
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    check_structure(tmp_path / "model.onnx", exported.card, opset=20)


def test_another_card_gives_another_preprocess_digest(exported: Exported) -> None:
    other = card_of(exported.dataset, exported.model, SIZE_PX + 8)
    assert other.preprocess.digest != exported.card.preprocess.digest


def test_numbers_that_look_like_a_path_are_no_path(exported: Exported, tmp_path: Path) -> None:
    """Of some megabytes of int8 weights, a few bytes read like a drive's letter by chance."""
    model = onnx.load(exported.graph)
    looks = b"p:\\Door/usr/lib/x.so"
    unused = [
        onnx.TensorProto(name="raw", data_type=onnx.TensorProto.UINT8, dims=[len(looks)]),
        onnx.helper.make_tensor("typed", onnx.TensorProto.INT32, [len(looks)], list(looks)),
    ]
    unused[0].raw_data = looks
    model.graph.initializer.extend(unused)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert looks in path.read_bytes()
    check_structure(path, exported.card, opset=20)

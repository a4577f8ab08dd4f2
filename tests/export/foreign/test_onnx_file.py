from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from export.foreign.onnx_file import OnnxClassifier, ends_in_softmax, layout_of
from export.parity.batching import batch_invariance, mixed_batch_logits
from serve.contract.errors import UsageError
from tests.export.foreign_models import CLASSES, MEAN, SIZE_PX, STD, weights, write_classifier


def _pixels(count: int) -> np.ndarray:
    shape = (count, SIZE_PX, SIZE_PX, 3)
    return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)


def _expected(pixels: np.ndarray) -> np.ndarray:
    return ((pixels / 255 - np.array(MEAN)) / np.array(STD)).mean((1, 2)) @ weights()


@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("order", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
def test_each_usual_layout_gives_the_same_answers(
    tmp_path: Path, dtype: str, order: str, batch: Any
) -> None:
    path = write_classifier(tmp_path / "a.onnx", dtype=dtype, order=order, batch=batch)
    pixels = _pixels(27)
    with OnnxClassifier(path, mean=MEAN, std=STD) as file:
        assert (file.layout.order, file.layout.size_px) == (order, SIZE_PX)
        assert file.max_batch_size == (16 if batch == "batch" else batch)
        logits = mixed_batch_logits(file, pixels)
        assert batch_invariance(file, pixels, logits) < 1e-5
        assert file.describe()["provider"] == "CPUExecutionProvider"
    assert logits.shape == (27, CLASSES)
    tolerance = 0.05 if dtype == "float16" else 1e-4
    np.testing.assert_allclose(logits, _expected(pixels), atol=tolerance)


def test_a_size_left_open_is_read_as_open(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx", size="side")
    assert OnnxClassifier(path).layout.size_px is None


def test_the_wrong_mean_changes_the_answers(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx", dtype="float32")
    pixels = _pixels(3)
    wrong = OnnxClassifier(path, mean=(0.5, 0.5, 0.5), std=STD).infer(pixels)
    assert np.abs(wrong - _expected(pixels)).max() > 0.1


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (["n", 3, 8, 8], "tensor(int64)"),
        (["n", 8, 8, 1], "tensor(uint8)"),
        (["n", "h", "w", "c"], "tensor(float)"),
        (["n", 3, 8, 6], "tensor(float)"),
        (["n", 192], "tensor(float)"),
        (["n", 3, 3, 3], "tensor(float)"),
    ],
)
def test_an_unusual_input_is_named(shape: list[Any], dtype: str) -> None:
    with pytest.raises(UsageError, match=r"some\.onnx takes tensor.*expected uint8, float or"):
        layout_of(shape, dtype, "some.onnx")


def test_floats_ask_for_mean_and_std(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx", dtype="float32")
    with pytest.raises(UsageError, match=r"takes float32.*--mean and --std") as caught:
        OnnxClassifier(path, mean=MEAN)
    assert "--mean 0.485,0.456,0.406" in caught.value.next_step


def _refusal(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        OnnxClassifier(path)
    assert str(path) in caught.value.message
    assert caught.value.next_step
    return caught.value


def test_no_such_file(tmp_path: Path) -> None:
    assert "No such file" in _refusal(tmp_path / "none.onnx").message


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_a_corrupt_file(tmp_path: Path, damage: str) -> None:
    path = write_classifier(tmp_path / "a.onnx")
    data = path.read_bytes()
    path.write_bytes({"text": b"not a model", "cut": data[: len(data) // 2], "empty": b""}[damage])
    error = _refusal(path)
    assert "damaged" in error.message or "cannot be loaded" in error.message


def test_weights_in_a_second_file_that_is_not_there(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="a.onnx.data", size_threshold=70)
    assert OnnxClassifier(path).infer(_pixels(2)).shape == (2, CLASSES)  # beside it, all is well
    (tmp_path / "a.onnx.data").unlink()
    error = _refusal(path)
    assert "weights in a second file" in error.message
    assert "onnx.save(onnx.load(path)" in error.next_step


def test_an_opset_of_tomorrow(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.opset_import[0].version = 99
    path.write_bytes(model.SerializeToString())
    error = _refusal(path)
    assert "is of opset 99, which onnxruntime" in error.message
    assert "opset_version" in error.next_step


def test_operators_of_no_standard(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node[-1].domain, model.graph.node[-1].op_type = "com.example", "Odd"
    onnx.save(model, path)
    error = _refusal(path)
    assert "operators that ONNX Runtime has not" in error.message
    assert "com.example" in error.message
    assert "standard operators" in error.next_step


def test_several_outputs_need_one_called_logits(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.output.add().CopyFrom(helper.make_tensor_value_info("colour", 1, None))
    onnx.save(model, path)
    assert OnnxClassifier(path).infer(_pixels(1)).shape == (1, CLASSES)
    model.graph.node[-1].output[0] = "scores2"
    model.graph.output[0].name = "scores2"
    onnx.save(model, path)
    assert "2 outputs, none of them called logits: scores2, colour" in _refusal(path).message


def test_probabilities_are_told_from_logits(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "a.onnx", tail="Softmax")
    assert ends_in_softmax(OnnxClassifier(path).infer(_pixels(5)))
    assert not ends_in_softmax(_expected(_pixels(5)))
    assert not ends_in_softmax(np.array([[2.0, -1.0]], np.float32))

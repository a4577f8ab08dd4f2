"""Small ONNX classifiers in the layouts that others use, all of one linear model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE_PX = 8
CLASSES = 4
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
TYPES = {
    "uint8": TensorProto.UINT8,
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
}


def weights(seed: int = 0) -> np.ndarray:
    """(3, CLASSES): what multiplies an image's mean colour."""
    return np.random.default_rng(seed).normal(0, 3, (3, CLASSES)).astype(np.float32)


def write_classifier(
    path: Path,
    *,
    dtype: str = "uint8",
    order: str = "NHWC",
    size: Any = SIZE_PX,
    batch: Any = "batch",
    matrix: np.ndarray | None = None,
    tail: str = "",
) -> Path:
    """Write a classifier: the normalised mean colour times a matrix.

    A uint8 input is normalised inside. `tail` is a further operator, such as Softmax.
    """
    matrix = weights() if matrix is None else matrix
    shape = [batch, size, size, 3] if order == "NHWC" else [batch, 3, size, size]
    axes = [1, 2] if order == "NHWC" else [2, 3]
    constants = {"matrix": matrix, "axes": np.array(axes, np.int64)}
    nodes = [helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT)]
    nodes.append(helper.make_node("ReduceMean", ["floats", "axes"], ["colour"], keepdims=0))
    colour = "colour"
    if dtype == "uint8":
        constants["scale"] = 1 / (255 * np.array(STD, np.float32))
        constants["shift"] = -np.array(MEAN, np.float32) / np.array(STD, np.float32)
        nodes.append(helper.make_node("Mul", ["colour", "scale"], ["scaled"]))
        nodes.append(helper.make_node("Add", ["scaled", "shift"], ["normal"]))
        colour = "normal"
    nodes.append(helper.make_node("MatMul", [colour, "matrix"], ["scores"]))
    nodes.append(helper.make_node(tail or "Identity", ["scores"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("image", TYPES[dtype], shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, matrix.shape[1]])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path

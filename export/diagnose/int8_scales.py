"""What an int8 file's scales say, and copies of it with weights or activations back in float.

An int8 file here is ONNX in QDQ form: QuantizeLinear and DequantizeLinear around each tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.diagnose.graph_edits import BATCH, run

__all__ = [
    "ActivationRange",
    "activation_ranges",
    "count_weight_scales",
    "is_quantised",
    "with_float_activations",
    "with_float_weights",
]

WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
EIGHT_BITS = {TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255)}


@dataclass(frozen=True)
class ActivationRange:
    """What an activation may hold and what it reaches.

    Args:
        tensor: its name.
        low: smallest value that its 8 bits hold.
        high: largest.
        seen_low: smallest value on images, in float.
        seen_high: largest.
    """

    tensor: str
    low: float
    high: float
    seen_low: float
    seen_high: float

    @property
    def factor(self) -> float:
        """How many times too narrow or too wide, at least 1."""
        held, seen = max(self.high - self.low, 1e-12), max(self.seen_high - self.seen_low, 1e-12)
        return max(held / seen, seen / held)


def is_quantised(path: Path) -> bool:
    """Whether the file has 8-bit activations in QDQ form."""
    return any(node.op_type == "QuantizeLinear" for node in onnx.load(path).graph.node)


def count_weight_scales(path: Path) -> tuple[int, int]:
    """Weights of several channels with one scale for all of them, and all 8-bit weights."""
    graph = onnx.load(path).graph
    constants = {item.name: item for item in graph.initializer}
    weighted = {name for node in graph.node if node.op_type in WEIGHTED for name in node.input}
    single = total = 0
    for node in _weight_nodes(graph):
        if node.output[0] not in weighted or max(constants[node.input[0]].dims, default=1) == 1:
            continue
        total += 1
        single += int(np.prod(constants[node.input[1]].dims)) == 1
    return single, total


def with_float_weights(path: Path, fp32: Path) -> bytes:
    """A copy whose 8-bit weights are those of the fp32 file; activations stay in 8 bits."""
    model = onnx.load(path)
    graph = model.graph
    exact = {item.name: item for item in onnx.load(fp32).graph.initializer}
    for node in list(_weight_nodes(graph)):
        weight = exact.get(node.input[0].removesuffix("_quantized"))
        if weight is not None:
            graph.node.remove(node)
            item = graph.initializer.add()
            item.CopyFrom(weight)
            item.name = node.output[0]
    return bytes(model.SerializeToString())


def with_float_activations(path: Path, fp32: Path) -> bytes:
    """A copy of the fp32 file with the 8-bit weights of the other; activations stay in float.

    Not the int8 file without its activations' nodes: their ranges also do the work of the ReLU and
    Clip nodes that quantisation takes out.
    """
    model, quantised = onnx.load(fp32), onnx.load(path).graph
    constants = {item.name: item for item in quantised.initializer}
    rounded = {
        node.input[0].removesuffix("_quantized"): _dequantised(node, constants)
        for node in _weight_nodes(quantised)
    }
    for item in model.graph.initializer:
        if item.name in rounded:
            item.CopyFrom(numpy_helper.from_array(rounded[item.name], item.name))
    return bytes(model.SerializeToString())


def activation_ranges(path: Path, fp32: Path, pixels: NDArray[np.uint8]) -> list[ActivationRange]:
    """Ranges of the 8-bit activations against what images reach in float, the worst first.

    Args:
        path: of the int8 file.
        fp32: of the file that it was made from.
        pixels: (N, H, W, 3) uint8.
    """
    model = onnx.load(fp32)
    graph = model.graph
    known = {name for node in graph.node for name in node.output}
    held = {name: bounds for name, bounds in _held_ranges(path).items() if name in known}
    del graph.output[:]
    for i, name in enumerate(held):
        for kind in ("ReduceMin", "ReduceMax"):
            output = f"stillroom_{kind}_{i}"
            clipped = _after_clipping(graph, name)
            graph.node.append(helper.make_node(kind, [clipped], [output], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    batches = [pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH)]
    seen = np.array(run(model.SerializeToString(), batches)).reshape(len(batches), -1, 2)
    lows, highs = seen[..., 0].min(0), seen[..., 1].max(0)
    ranges = [
        ActivationRange(name, low, high, float(lows[i]), float(highs[i]))
        for i, (name, (low, high)) in enumerate(held.items())
    ]
    return sorted(ranges, key=lambda found: -found.factor)


def _held_ranges(path: Path) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each 8-bit activation, by the name of the float tensor."""
    graph = onnx.load(path).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    held = {}
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or len(node.input) < 3:
            continue
        scale, zero = (constants.get(name) for name in node.input[1:])
        if scale is None or zero is None or scale.size != 1:
            continue
        kind = helper.np_dtype_to_tensor_dtype(zero.dtype)
        if kind in EIGHT_BITS:
            low, high = (
                (limit - int(zero.item())) * float(scale.item()) for limit in EIGHT_BITS[kind]
            )
            held[node.input[0]] = (low, high)
    return held


def _after_clipping(graph: onnx.GraphProto, name: str) -> str:
    """The tensor after a ReLU or Clip: quantisation takes such a node out, and keeps its range."""
    readers = [node for node in graph.node if name in node.input]
    if len(readers) == 1 and readers[0].op_type in ("Clip", "Relu"):
        return str(readers[0].output[0])
    return name


def _dequantised(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> NDArray[np.float32]:
    values, scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input)
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    if scale.size > 1:
        shape = [-1 if i == axis % values.ndim else 1 for i in range(values.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    result: NDArray[np.float32] = (values.astype(np.float32) - zero) * scale
    return result.astype(np.float32)


def _weight_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """DequantizeLinear of 8-bit constants; biases have 32 bits."""
    small = {item.name for item in graph.initializer if item.data_type in EIGHT_BITS}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in small:
            yield node

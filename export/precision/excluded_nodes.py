"""What stays in float in an int8 graph, and what makes sure that it does."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

__all__ = ["always_float", "float_outputs", "guard_float", "with_partners"]

HEAD = {"Cast", "Transpose", "Mul", "Add"}  # normalisation, before the first layer with weights
NORMS = {"LayerNormalization", "InstanceNormalization", "BatchNormalization"}  # no int8 kernels
JOINED = {"Clip", "Relu"}  # are calibrated with the layer before them
WEIGHTED = {"Conv", "ConvTranspose", "Gemm"}  # what ONNX Runtime would quantise on its own
HIGHEST = np.array(np.finfo(np.float32).max)
LIMITS = {"float32 lowest": -HIGHEST, "float32 highest": HIGHEST}  # inputs of a Clip


def always_float(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that int8 makes neither faster nor smaller: normalisation, of any kind."""
    norms = [node.name for node in model.graph.node if node.op_type in NORMS]
    return [*_head(model), *norms]


def _head(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that normalise the image, before the first layer of the network."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    reached, names = {graph.input[0].name}, []
    for node in graph.node:
        if (
            node.op_type in HEAD
            and reached & set(node.input)
            and all(name in reached or name in constants for name in node.input)
        ):
            reached.update(node.output)
            names.append(node.name)
    return names


def with_partners(model: onnx.ModelProto, names: Collection[str]) -> set[str]:
    """The named nodes, and what must stay in float with them.

    A Clip or Relu sets the range that its layer is calibrated to. Were the Clip in float and its
    layer in int8, the range before clipping would be calibrated, which ruins ReLU6 networks.
    """
    nodes = {node.name: node for node in model.graph.node}
    if unknown := sorted(set(names) - nodes.keys()):
        raise ValueError(f"keep_float names no node of the graph: {', '.join(unknown[:3])}.")
    producers = {name: node for node in nodes.values() for name in node.output}
    kept = set(names)
    for node in nodes.values():
        if node.op_type in JOINED and (before := producers.get(node.input[0])) is not None:
            pair = {node.name, before.name}
            if pair & kept:
                kept |= pair
    return kept


def float_outputs(graph: onnx.GraphProto) -> None:
    """Take Q and DQ from the graph's outputs: logits in 256 steps would tie without need."""
    producers = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        dequantise = producers.get(output.name)
        if dequantise is None or not _dequantises(dequantise):
            continue
        quantise = producers[dequantise.input[0]]
        if any(set(quantise.output) & set(node.input) for node in graph.node if node != dequantise):
            continue  # another layer reads the quantised logits
        layer = producers[quantise.input[0]]
        layer.output[list(layer.output).index(quantise.input[0])] = output.name
        graph.node.remove(dequantise)
        graph.node.remove(quantise)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def guard_float(graph: onnx.GraphProto, kept: Collection[str]) -> None:
    """Keep ONNX Runtime from quantising what was left in float on purpose.

    Its optimiser (WeightBiasQuantization, at every level but "disable") gives a float layer between
    DequantizeLinear and QuantizeLinear int8 weights, one scale for all channels: 24.6 dB of a
    tf_efficientnet_lite0 with one depthwise layer in float became 13.4 dB (ONNX Runtime 1.32.0).
    A Clip to the limits of float32 changes nothing and breaks that pattern.
    """
    producers = {name: node for node in graph.node for name in node.output}
    layers = [node for node in graph.node if node.name in kept and node.op_type in WEIGHTED]
    guarded = [node for node in layers if _dequantises(producers.get(node.input[0]))]
    for name in [node.name for node in guarded]:
        place = next(i for i, node in enumerate(graph.node) if node.name == name)
        read, passed = graph.node[place].input[0], f"{name} float input"
        graph.node[place].input[0] = passed
        clip = onnx.helper.make_node("Clip", [read, *LIMITS], [passed], passed)
        graph.node.insert(place, clip)
    if guarded:
        graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in LIMITS.items())


def _dequantises(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"

"""Where an int8 file loses accuracy: the signal-to-noise ratio of each quantised node's output."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.onnx_file import read_fp32, read_graph, save_graph
from serve.runners.onnxruntime_runner import plain_session

__all__ = ["NodeNoise", "noise_of_nodes", "snr_of_sums"]

BATCH = 2  # images whose activations of both graphs are in memory together
SILENCE = 1e-30  # power of a signal of nothing but zeros
EXACT_DB = 999.0  # instead of infinity, which JSON does not have
OURS = "fp32 "  # before the names of the fp32 graph; no exporter writes a space


@dataclass(frozen=True)
class NodeNoise:
    """A quantised node.

    Args:
        name: in the fp32 graph.
        op_type: for example Conv.
        snr_db: of its output, as the next node reads it, against the fp32 graph's; 999 where they
            are equal. It holds the noise of all nodes before, too, so that the worst node is not
            always the one to blame: see `export.precision.layer_sensitivity`.
    """

    name: str
    op_type: str
    snr_db: float

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def noise_of_nodes(source: Path, quantised: Path, pixels: NDArray[np.uint8]) -> list[NodeNoise]:
    """Run both graphs on the same images and compare them node by node.

    The differences are summed inside one joint graph, so that memory holds the activations of two
    images and not those of all nodes and images.

    Args:
        source: fp32 ONNX file.
        quantised: what `write_int8` made of it.
        pixels: (N, H, W, 3) uint8; 16 to 64 images.

    Returns:
        Worst first; equal ones in the order of the graph.

    Raises:
        UsageError: a file is not an ONNX file, or the source is not an fp32 one.
        ValueError: the files share no quantised node, or there are no images.
    """
    before, after = read_fp32(source), read_graph(quantised)
    pairs = _pairs(before, after.graph)
    if not len(pixels) or not pairs:
        raise ValueError(f"{len(pixels)} images, {len(pairs)} quantised nodes: nothing to compare.")
    sums = _run(_joint(before, after, pairs), pixels, len(pairs))
    found = [
        NodeNoise(pair.name, pair.op_type, snr_of_sums(float(signal), float(noise)))
        for pair, (signal, noise) in zip(pairs, sums, strict=True)
    ]
    return sorted(found, key=lambda node: node.snr_db)


def snr_of_sums(signal: float, noise: float) -> float:
    """Signal to noise in dB of two sums of squares; 999 without noise."""
    if noise == 0:
        return EXACT_DB
    return (
        round(10 * math.log10(max(signal, SILENCE) / noise), 2) if noise < math.inf else -EXACT_DB
    )


@dataclass(frozen=True)
class _Pair:
    """A node that is in both graphs.

    Args:
        name: of the node.
        op_type: of the node.
        tensor: what its output is called in the fp32 graph.
        seen: what the next node reads in the quantised graph.
    """

    name: str
    op_type: str
    tensor: str
    seen: str


def _pairs(before: onnx.ModelProto, after: onnx.GraphProto) -> list[_Pair]:
    """The nodes of the fp32 graph that read or write int8 in the other one, in order."""
    names = {node.name for node in before.graph.node}
    floats = _float_tensors(before)
    producers = {name: node for node in after.node for name in node.output}
    quantisers = {node.input[0]: node for node in after.node if node.op_type == "QuantizeLinear"}
    dequantised = {node.input[0]: node.output[0] for node in after.node if _dequantises(node)}
    pairs = []
    for node in after.node:
        output = node.output[0]
        if node.name not in names or output not in floats:
            continue
        seen = output
        if (quantise := quantisers.get(output)) is not None:
            seen = dequantised.get(quantise.output[0], output)
        if seen != output or any(_dequantises(producers.get(name)) for name in node.input):
            pairs.append(_Pair(node.name, node.op_type, output, seen))
    return pairs


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }


def _dequantises(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _joint(before: onnx.ModelProto, after: onnx.ModelProto, pairs: list[_Pair]) -> onnx.ModelProto:
    """Both graphs on one input, with the sums of squares of each pair as the outputs."""
    joint = onnx.ModelProto()
    joint.CopyFrom(after)
    graph = joint.graph
    image = before.graph.input[0].name
    for tensor in before.graph.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = OURS + tensor.name
    for node in before.graph.node:
        graph.node.add().CopyFrom(node)
        ours = graph.node[-1]
        ours.name = OURS + node.name
        ours.input[:] = [name if name in {"", image} else OURS + name for name in node.input]
        ours.output[:] = [OURS + name if name else name for name in node.output]
    del graph.output[:]
    for number, pair in enumerate(pairs):
        ours, noise = OURS + pair.tensor, f"{OURS}difference {number}"
        graph.node.append(onnx.helper.make_node("Sub", [pair.seen, ours], [noise]))
        for kind, name in (("signal", ours), ("noise", noise)):
            output = f"{OURS}{kind} {number}"
            graph.node.append(
                onnx.helper.make_node("ReduceSumSquare", [name], [output], keepdims=0)
            )
            graph.output.append(
                onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [])
            )
    return joint


def _run(joint: onnx.ModelProto, pixels: NDArray[np.uint8], count: int) -> NDArray[np.float64]:
    """(count, 2) sums over all images of the squares of signal and noise."""
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        path = Path(scratch) / "joint.onnx"
        name = joint.graph.input[0].name
        save_graph(joint, path, {})
        # As it is written: what the runtime makes of it is the parity gate's question.
        session = plain_session(path, optimise=False)
    sums = np.zeros((count, 2))
    for begin in range(0, len(pixels), BATCH):
        values = session.run(None, {name: pixels[begin : begin + BATCH]})
        sums += np.array(values, dtype=np.float64).reshape(count, 2)
    return sums

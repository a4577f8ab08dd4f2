"""Which nodes an int8 file should leave in float: those that alone do the logits most harm.

The noise of a node's own output does not tell. Noise of the last maps is averaged away by pooling,
while that of the first layers goes through everything. SNR of the logits in dB, before and with 16
nodes in float:

| | none | worst 16 by their outputs | worst 16 by the logits |
|---|---|---|---|
| tf_efficientnet_lite0 at 80 px, flowers, 100 test images | 24.0 | 23.5 | 29.1 |
| test_vit with random weights, 60 images | 9.6 | 10.6 | 25.1 |
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.onnx_file import read_fp32
from export.precision.excluded_nodes import always_float, with_partners
from export.precision.node_noise import NodeNoise, snr_of_sums
from export.precision.quantize import Target, write_int8
from serve.runners.onnxruntime_runner import plain_session

__all__ = ["sensitivity_of_nodes"]

BATCH = 8
# Int8 only where a neighbour is: alone they change nothing.
MOVES = {
    "Clip", "Concat", "Flatten", "Gather", "GatherElements", "MaxPool", "Pad", "Relu", "Reshape",
    "Resize", "Slice", "Split", "Squeeze", "TopK", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


def sensitivity_of_nodes(
    source: Path,
    pixels: NDArray[np.uint8],
    *,
    nodes: Collection[str],
    target: Target = "onnxruntime",
    ranges: Path,
    images: int = 16,
) -> list[NodeNoise]:
    """Quantise one node at a time and compare the logits with those of the fp32 file.

    Args:
        source: fp32 ONNX file.
        pixels: (N, H, W, 3) uint8 for the calibration; `images` of them, evenly spread, are asked.
        nodes: names of those to try, for example those that `noise_of_nodes` found.
        target: of the file.
        ranges: see `write_int8`.
        images: how many, at most.

    Returns:
        For each node that alone changes the logits, their SNR; worst first.
    """
    model = read_fp32(source)
    names = [node.name for node in model.graph.node]
    fixed = set(always_float(model))
    asked = pixels[:: max(1, len(pixels) // images)][:images]
    reference = _logits(source, asked)
    found = []
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        path = Path(scratch) / "int8.onnx"
        for node in model.graph.node:
            if node.name not in nodes or node.op_type in MOVES or node.name in fixed:
                continue
            alone = with_partners(model, [node.name])
            rest = [name for name in names if name not in alone]
            write_int8(source, path, pixels, target=target, keep_float=rest, ranges=ranges)
            noise = _logits(path, asked) - reference
            snr_db = snr_of_sums(float((reference**2).sum()), float((noise**2).sum()))
            found.append(NodeNoise(node.name, node.op_type, snr_db))
    return sorted(found, key=lambda node: node.snr_db)


def _logits(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    session = plain_session(path)
    name = session.get_inputs()[0].name
    batches = range(0, len(pixels), BATCH)
    answers = [session.run(None, {name: pixels[i : i + BATCH]})[0] for i in batches]
    return np.concatenate(answers).astype(np.float64)

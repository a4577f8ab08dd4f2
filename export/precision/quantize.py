"""int8 files: one for ONNX Runtime on CPUs, another for TensorRT, each calibrated on images.

They must differ. ONNX Runtime is fast on x86 with uint8 activations and int32 biases; TensorRT's
parser takes symmetric int8 activations only, and no quantised bias.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from export.onnx_file import properties_of, read_fp32, runtime_tools, save_graph
from export.precision.excluded_nodes import always_float, float_outputs, guard_float, with_partners

__all__ = ["Target", "write_int8"]

Target = Literal["onnxruntime", "tensorrt"]
BATCH = 2  # calibration images in memory with all their activations
PREPARED = "onnx.quant.pre_process"  # else the quantiser writes warnings to the root logger


def write_int8(
    source: Path,
    path: Path,
    pixels: NDArray[np.uint8],
    *,
    target: Target = "onnxruntime",
    keep_float: Collection[str] = (),
    ranges: Path | None = None,
) -> None:
    """Quantise an fp32 file: weights per channel, activations by their range on real images.

    Normalisation and the logits themselves stay in float: that is more accurate and faster.
    Equal arguments give equal bytes.

    Args:
        source: fp32 ONNX file, uint8 (N, H, W, 3) in, float32 (N, K) out.
        path: of the int8 file.
        pixels: (N, H, W, 3) uint8, training images through the serving preprocess; 32 to 128
            of all classes will do, noise never.
        target: what the file is for.
        keep_float: names of nodes that stay in float, each with the Clip or Relu behind it.
        ranges: cache of the activations' ranges: written where it is missing, else read. One file
            for one source and one set of pixels.

    Raises:
        UsageError: the source is not an fp32 ONNX file, or ONNX Runtime is missing.
        ValueError: pixels of another shape, none, or a node that is not there.
    """
    model = read_fp32(source)
    _check_pixels(model, pixels)
    kept = with_partners(model, keep_float)
    tools = runtime_tools("quantization")
    kinds = tools.QuantType
    options: dict[str, Any] = {}
    if target == "tensorrt":
        options = {"ActivationSymmetric": True, "QuantizeBias": False}
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        prepared, made = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
        properties = properties_of(model)
        save_graph(model, prepared, {PREPARED: "onnxruntime.quant"})
        tools.quantize_static(
            prepared,
            made,
            _Batches(model.graph.input[0].name, pixels),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=kinds.QInt8 if target == "tensorrt" else kinds.QUInt8,
            weight_type=kinds.QInt8,
            nodes_to_exclude=sorted({*kept, *always_float(model)}),
            extra_options=options,
            calibration_cache_path=ranges,
        )
        quantised = onnx.load(made)
    float_outputs(quantised.graph)
    if target == "onnxruntime":
        guard_float(quantised.graph, kept)
    del quantised.graph.value_info[:]
    save_graph(quantised, path, properties)


class _Batches:
    """Calibration images as the quantiser asks for them: a few at a time, then None."""

    def __init__(self, name: str, pixels: NDArray[np.uint8]) -> None:
        self._name, self._pixels, self._next = name, pixels, 0

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = self._pixels[self._next : self._next + BATCH]
        self._next += BATCH
        return {self._name: batch} if len(batch) else None


def _check_pixels(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = tuple(dim.dim_value for dim in list(dims)[1:])
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or not len(pixels):
        raise ValueError(
            f"calibration pixels are {pixels.dtype} {pixels.shape}; "
            f"expected uint8 (1 or more, {', '.join(map(str, shape))})."
        )

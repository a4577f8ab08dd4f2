"""The fp16 file: weights and arithmetic in 16 bits, uint8 in and float32 logits out as before."""

from __future__ import annotations

from pathlib import Path

from export.onnx_file import properties_of, read_fp32, runtime_tools, save_graph

__all__ = ["write_fp16"]


def write_fp16(source: Path, path: Path) -> None:
    """Convert an fp32 file. Equal sources give equal bytes.

    The normalisation is converted, too: every level of uint8 is exact in 16 bits, and the rounding
    of scale and shift is a small part of that of the weights (tf_efficientnet_lite0: 50.7 dB with
    it in fp16 and in fp32; mobilenetv3_small_100: 57.1 and 57.4 dB). Weights above 65504 become
    65504, and larger activations overflow: that is for the parity gate to find.

    Args:
        source: fp32 ONNX file, uint8 (N, H, W, 3) in, float32 (N, K) out.
        path: of the fp16 file.

    Raises:
        UsageError: the source is not an fp32 ONNX file, or ONNX Runtime is missing.
    """
    model = read_fp32(source)
    convert = runtime_tools("transformers.float16").convert_float_to_float16
    half = convert(model, keep_io_types=True)
    # The converter appends the casts around operators that stay in fp32 at the end of the list.
    runtime_tools("quantization.onnx_model").ONNXModel(half).topological_sort()
    del half.graph.value_info[:]
    save_graph(half, path, properties_of(model))

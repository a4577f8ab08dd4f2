"""A small ReLU6 network with a depthwise layer as an ONNX file, made without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE_PX = 16
PROPERTIES = {"labels": "a\nb\nc", "arch": "toy"}
STEM, DEPTHWISE, POINTWISE = "stem", "depthwise", "pointwise"  # three Conv, the first two clipped


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth pictures: a colour each, with a slope."""
    rng = np.random.default_rng(seed)
    colour = rng.uniform(30, 220, (count, 1, 1, 3))
    slope = rng.uniform(-5, 5, (count, 1, 1, 3)) * np.arange(SIDE_PX)[:, None]
    noise = rng.normal(0, 6, (count, SIDE_PX, SIDE_PX, 3))
    return (colour + slope + noise).clip(0, 255).astype(np.uint8)


def write_toy_graph(path: Path, *, uneven: float = 1.0, seed: int = 0) -> Path:
    """Write the file.

    Args:
        path: of it.
        uneven: the largest depthwise filter over the smallest.
        seed: of the weights.
    """
    rng = np.random.default_rng(seed)
    spread = np.geomspace(1, uneven, 8).reshape(8, 1, 1, 1)
    constants = {
        "scale": np.full((1, 3, 1, 1), 1 / 127.5),
        "shift": np.full((1, 3, 1, 1), -1.0),
        "low": np.float32(0),
        "high": np.float32(6),
        "stem.weight": rng.normal(0, 0.7, (8, 3, 3, 3)),
        "stem.bias": rng.normal(0, 0.3, 8),
        "depthwise.weight": rng.normal(0, 0.6, (8, 1, 3, 3)) * spread,
        "depthwise.bias": rng.normal(0.5, 0.3, 8),
        "pointwise.weight": rng.normal(0, 0.5, (12, 8, 1, 1)) / spread.reshape(1, 8, 1, 1),
        "pointwise.bias": rng.normal(0, 0.3, 12),
        "head.weight": rng.normal(0, 1, (3, 12)),
        "head.bias": rng.normal(0, 0.3, 3),
    }

    def conv(name: str, before: str, after: str, **more: int) -> onnx.NodeProto:
        pads = [0] * 4 if name == POINTWISE else [1] * 4
        wires = [before, f"{name}.weight", f"{name}.bias"]
        return helper.make_node("Conv", wires, [after], name, pads=pads, **more)

    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"], "mul"),
        helper.make_node("Add", ["scaled", "shift"], ["normal"], "add"),
        conv(STEM, "normal", "stem.out"),
        helper.make_node("Clip", ["stem.out", "low", "high"], ["stem.act"], "stem.clip"),
        conv(DEPTHWISE, "stem.act", "depthwise.out", group=8),
        helper.make_node("Clip", ["depthwise.out", "low", "high"], ["depthwise.act"], "dw.clip"),
        conv(POINTWISE, "depthwise.act", "pointwise.out"),
        helper.make_node("GlobalAveragePool", ["pointwise.out"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node(
            "Gemm", ["flat", "head.weight", "head.bias"], ["logits"], "head", transB=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE_PX, SIDE_PX, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, PROPERTIES)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def logits_of(
    path: Path, pixels: NDArray[np.uint8], *, optimised: bool = True
) -> NDArray[np.float64]:
    """(N, K) answers of a file, by default as the server's session would give them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    batches = [pixels[i : i + 16] for i in range(0, len(pixels), 16)]
    answers = [session.run(["logits"], {"image": batch})[0] for batch in batches]
    return np.concatenate(answers).astype(np.float64)


def snr_db(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> float:
    """Signal to noise of logits."""
    noise = ((candidate - reference) ** 2).sum()
    return float(10 * np.log10((reference**2).sum() / max(noise, 1e-30)))

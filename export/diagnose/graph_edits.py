"""Copies of an ONNX file with one thing changed, to see whether that restores its predictions.

Nothing here is ever published: the copies live in memory, for `export/diagnose/diagnosis.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serve.runners.onnxruntime_runner import plain_session

__all__ = [
    "ChangedInitialiser",
    "RefusedGraph",
    "changed_initialisers",
    "holds_halves",
    "logits_of",
    "normalisation_of",
    "with_affine_input",
    "with_initialisers_of",
]

BATCH = 16
# A node that moves or retypes pixels and leaves their values alone.
TRANSPARENT = {"Cast", "Identity", "Transpose", "QuantizeLinear", "DequantizeLinear"}
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


class RefusedGraph(Exception):
    """ONNX Runtime does not run a copy: the trial says nothing."""


@dataclass(frozen=True)
class ChangedInitialiser:
    """One tensor that differs between two files.

    Args:
        name: in both.
        max_diff: largest absolute difference; inf where a value is not finite.
        where: its index.
    """

    name: str
    max_diff: float
    where: tuple[int, ...]


def logits_of(model: bytes, images: NDArray[Any], *, optimise: bool = True) -> NDArray[np.float32]:
    """Answers of a file on one CPU thread, the first output only, in batches of 16.

    Args:
        model: ONNX bytes with one input.
        images: (N, H, W, 3) of the input's type.
        optimise: as the server does, or not at all.

    Raises:
        RefusedGraph: as `run`.
    """
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    return np.concatenate([outputs[0] for outputs in run(model, batches, optimise=optimise)])


def run(
    model: bytes, batches: list[NDArray[Any]], *, optimise: bool = True
) -> list[list[NDArray[Any]]]:
    """All outputs of each batch.

    Raises:
        RefusedGraph: ONNX Runtime does not load or run the file.
    """
    try:
        session = plain_session(model, threads=1, optimise=optimise)
        name = session.get_inputs()[0].name
        return [session.run(None, {name: batch}) for batch in batches]
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise RefusedGraph(str(error)) from error


def with_affine_input(
    path: Path, gain: NDArray[np.float64], offset: NDArray[np.float64]
) -> bytes | None:
    """A copy that takes float32 pixels and changes each channel to gain * pixel + offset first.

    So pixels can be fed that uint8 does not hold. None where no Cast stands at the input.

    Args:
        path: of the file.
        gain: (3,).
        offset: (3,), in levels of 0 to 255.
    """
    model = onnx.load(path)
    graph = model.graph
    source = graph.input[0].name
    readers = _readers(graph, source)
    if [node.op_type for node in readers] != ["Cast"]:
        return None
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    names = [f"stillroom_{name}" for name in ("gain", "offset", "scaled", "shifted")]
    for name, value in zip(names, (gain, offset), strict=False):
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    readers[0].input[0] = names[3]
    nodes = [
        helper.make_node("Mul", [source, names[0]], [names[2]]),
        helper.make_node("Add", [names[2], names[1]], [names[3]]),
        *graph.node,
    ]
    return _rebuilt(model, nodes)


def normalisation_of(path: Path) -> Normalisation | None:
    """Mean and std that a file normalises with, for pixels in [0, 1]; None where not to be seen.

    Read off the first Mul and Add with one constant for each channel.
    """
    graph = onnx.load(path).graph
    constants = {item.name: item for item in graph.initializer}
    value, found = graph.input[0].name, []
    for wanted in ("Mul", "Add"):
        node = _next_reader(graph, value)
        while node is not None and node.op_type in TRANSPARENT:
            value = node.output[0]
            node = _next_reader(graph, value)
        if node is None or node.op_type != wanted:
            return None
        other = next((name for name in node.input if name != value), "")
        constant = constants.get(other)
        if constant is None or int(np.prod(constant.dims)) != 3:
            return None
        found.append(numpy_helper.to_array(constant).astype(np.float64).ravel())
        value = node.output[0]
    scale, shift = found
    std = 1 / (255 * scale)
    return tuple(map(float, -shift * std)), tuple(map(float, std))


def changed_initialisers(path: Path, other: Path) -> tuple[list[ChangedInitialiser], int]:
    """Initialisers of `path` that differ from those of the same name and type in `other`.

    Returns:
        The differing ones, relative to the tensor's size the largest first, and how many names
        both files have.
    """
    ours, theirs = (_floats(onnx.load(file).graph) for file in (path, other))
    shared = [
        name
        for name, value in ours.items()
        if name in theirs
        and value.shape == theirs[name].shape
        and value.dtype == theirs[name].dtype  # else the graph around it could not be loaded
    ]
    changed = []
    for name in shared:
        diff = np.abs(ours[name].astype(np.float64) - theirs[name])
        if not diff.size or (np.isfinite(diff).all() and diff.max() == 0):
            continue
        diff = np.nan_to_num(diff, nan=np.inf, posinf=np.inf)
        where = tuple(map(int, np.unravel_index(int(diff.argmax()), diff.shape)))
        size = float(np.abs(theirs[name]).max()) or 1.0
        changed.append((float(diff.max()) / size, ChangedInitialiser(name, diff.max(), where)))
    changed.sort(key=lambda pair: -pair[0])
    return [item for _, item in changed], len(shared)


def holds_halves(path: Path) -> bool:
    """Whether weights of a file have 16 bits."""
    return any(item.data_type == TensorProto.FLOAT16 for item in onnx.load(path).graph.initializer)


def with_initialisers_of(path: Path, other: Path, names: list[str]) -> bytes:
    """A copy of `path` with the named initialisers of `other`."""
    model = onnx.load(path)
    theirs = {item.name: item for item in onnx.load(other).graph.initializer}
    for item in model.graph.initializer:
        if item.name in names:
            item.CopyFrom(theirs[item.name])
    return bytes(model.SerializeToString())


def _floats(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16)
    tensors = [item for item in graph.initializer if item.data_type in kinds]
    return {item.name: numpy_helper.to_array(item) for item in tensors}


def _next_reader(graph: onnx.GraphProto, value: str) -> onnx.NodeProto | None:
    readers = _readers(graph, value)
    return readers[0] if len(readers) == 1 else None


def _readers(graph: onnx.GraphProto, value: str) -> list[onnx.NodeProto]:
    """Nodes that read the values of a tensor; some models also ask for its shape."""
    return [node for node in graph.node if value in node.input and node.op_type != "Shape"]


def _rebuilt(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> bytes:
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return bytes(model.SerializeToString())

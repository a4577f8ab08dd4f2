"""ONNX files as this package reads and writes them: nodes with names, nothing of the machine.

Imports neither torch nor ONNX Runtime by itself, so that a file can be derived from another one
wherever `onnx` is.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import onnx

from serve.contract.errors import StillroomError, UsageError
from serve.runners.onnxruntime_runner import installed_onnxruntime

__all__ = ["properties_of", "read_fp32", "read_graph", "runtime_tools", "save_graph"]

MAX_BYTES = 2**31 - 1  # of one protobuf
QUANTISED = {"QuantizeLinear", "DequantizeLinear"}
HALVES = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def read_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; nodes without a name, or with another node's, get one of their own.

    The same file always gives the same names.

    Raises:
        UsageError: no such file, or no ONNX in it.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of the file system or of protobuf, whose types are its own
        raise UsageError(
            f"{path.name} cannot be read as an ONNX file ({type(error).__name__}).",
            "Export it again.",
        ) from error
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}__{number}"
        seen.add(node.name)
    return model


def read_fp32(path: Path) -> onnx.ModelProto:
    """Read the file that others are derived from.

    Raises:
        UsageError: as `read_graph`, or the file is of a reduced precision already.
    """
    model = read_graph(path)
    found = sorted({node.op_type for node in model.graph.node} & QUANTISED)
    if any(tensor.data_type in HALVES for tensor in model.graph.initializer):
        found.append("16-bit weights")
    if found:
        raise UsageError(
            f"{path.name} is of a reduced precision already ({', '.join(found)}).",
            "Give the fp32 model.onnx; every precision is made from that one.",
        )
    return model


def save_graph(model: onnx.ModelProto, path: Path, properties: dict[str, str]) -> None:
    """Write a graph without comments and source paths; equal graphs give equal bytes.

    Args:
        model: changed in place.
        path: of the file.
        properties: all the metadata that the file gets.

    Raises:
        StillroomError: the graph is too large for one file.
    """
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    for initializer in graph.initializer:
        del initializer.metadata_props[:]
        initializer.doc_string = ""
    graph.name = "stillroom"
    model.producer_name, model.producer_version = "stillroom", ""
    onnx.helper.set_model_props(model, properties)
    data = model.SerializeToString(deterministic=True)
    if len(data) > MAX_BYTES:
        raise StillroomError("The graph is larger than 2 GB; one ONNX file cannot hold it.")
    path.write_bytes(data)


def properties_of(model: onnx.ModelProto) -> dict[str, str]:
    """The metadata of a file, by key."""
    return {entry.key: entry.value for entry in model.metadata_props}


def runtime_tools(name: str) -> Any:
    """Import `onnxruntime.<name>`, one of the tools that come with the runtime.

    They import one another through a folder that they append to `sys.path`, where modules are
    called `optimizer`, `metrics` and the like; it is there while they load, and then no longer.

    Raises:
        UsageError: ONNX Runtime is missing, or installed twice.
    """
    installed_onnxruntime()
    import onnxruntime

    before = list(sys.path)
    sys.path.append(str(Path(onnxruntime.__file__).parent / "transformers"))
    try:
        return importlib.import_module(f"onnxruntime.{name}")
    finally:
        sys.path[:] = before

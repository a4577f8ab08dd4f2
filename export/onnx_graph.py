"""The ONNX graph: written from a model, scrubbed of the machine that wrote it, checked."""

from __future__ import annotations

import contextlib
import copy
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import onnx
import torch
from timm.utils.model import reparameterize_model
from torch import nn
from torch.export import Dim

from export.onnx_file import save_graph
from serve.contract.errors import GateError, StillroomError
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier

__all__ = ["INPUT", "OUTPUT", "check_structure", "without_fused_attention", "write_graph"]

INPUT, OUTPUT = "image", "logits"
# Heads of `train.models.classifier.HEADS` that need another form in a graph, and what makes it.
GRAPH_HEADS = {"bilinear": "export.bilinear_graph:without_fft"}
ABSOLUTE_PATH = re.compile(rb"(?:/[\w.+-]+){2,}\.(?:py|so)\b|\b[A-Za-z]:\\\w")


def write_graph(model: ImageClassifier, card: ModelCard, path: Path, *, opset: int) -> None:
    """Export a model to one ONNX file: uint8 (N, H, W, 3) in, float32 (N, K) logits out.

    Equal weights give equal bytes. The model is copied, so it stays as it is.

    Args:
        model: in evaluation mode, on the CPU.
        card: its preprocess size fixes H and W; N stays dynamic.
        path: of the file.
        opset: asked for, and read back.

    Raises:
        StillroomError: torch cannot export this architecture.
    """
    size_px = card.preprocess.size_px
    plain = copy.deepcopy(model).eval()
    plain.backbone = reparameterize_model(plain.backbone)
    if plug := GRAPH_HEADS.get(model.head):
        plain.backbone = resolve_name(plug)(plain.backbone)
    plain.backbone = without_fused_attention(plain.backbone)
    example = torch.zeros(2, size_px, size_px, 3, dtype=torch.uint8)
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                plain,
                (example,),
                path,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: Dim("batch")},),
                opset_version=opset,
                external_data=False,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises types of torch.export, onnxscript and onnx
        raise StillroomError(
            f"torch cannot export {card.arch} to ONNX ({_first_line(error)}).",
            "Choose another arch for the model that is exported.",
        ) from error
    _scrub(path, card)


def check_structure(path: Path, card: ModelCard, *, opset: int) -> None:
    """Parity stage P0: the file is what a server expects.

    Raises:
        GateError: invalid graph, other opset, inputs or outputs, external data, custom operators,
            or an absolute path in it.
    """
    model = onnx.load(path, load_external_data=False)
    size_px = card.preprocess.size_px
    problems = []
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        problems.append(f"onnx.checker: {str(error).splitlines()[0]}")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.get("") != opset:
        problems.append(f"opset {versions.get('')}, asked for {opset}")
    if custom := sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"}):
        problems.append(f"custom operators of {', '.join(custom)}")
    if any(tensor.data_location for tensor in model.graph.initializer):
        problems.append("external data")
    expected = [(INPUT, onnx.TensorProto.UINT8, [None, size_px, size_px, 3])]
    if _signature(model.graph.input) != expected:
        problems.append(f"inputs {_signature(model.graph.input)}, expected {expected}")
    expected = [(OUTPUT, onnx.TensorProto.FLOAT, [None, len(card.labels)])]
    if _signature(model.graph.output) != expected:
        problems.append(f"outputs {_signature(model.graph.output)}, expected {expected}")
    if found := ABSOLUTE_PATH.search(b"\n".join(_texts(model))):
        problems.append(f"an absolute path of the machine that wrote it: {found.group()[:60]!r}")
    if problems:
        raise GateError(f"PARITY FAIL structure: {'; '.join(problems)}. Nothing was published.")


def without_fused_attention(backbone: nn.Module) -> nn.Module:
    """Let attention be two matrix products and a softmax, which export to fewer nodes.

    The exporter spells the fused operator out with a scaling of queries and keys of its own: 455
    nodes of a ViT instead of 347. timm's modules hold the switch themselves, so that nothing
    outside this copy changes, as it would with `timm.layers.set_fused_attn`.

    Args:
        backbone: changed in place.
    """
    for module in backbone.modules():
        if getattr(module, "fused_attn", None) is True:
            module.fused_attn = False  # type: ignore[assignment]
    return backbone


def _scrub(path: Path, card: ModelCard) -> None:
    """Remove source paths and generated comments; write what the file is instead."""
    properties = {
        "labels": "\n".join(card.labels),
        "arch": card.arch,
        "input": "uint8 NHWC RGB, resized and cropped; normalisation is inside",
        "preprocess_digest": card.preprocess.digest,
    }
    save_graph(onnx.load(path), path, properties)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


def _texts(message: Any) -> Iterator[bytes]:
    """Every name and text of a protobuf message; not the numbers, in which anything may occur."""
    for field, value in message.ListFields():
        if field.name == "raw_data" or isinstance(value, int | float):
            continue
        alone = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        for one in [value] if alone else value:
            if isinstance(one, str | bytes):
                yield one.encode() if isinstance(one, str) else one
            elif hasattr(one, "ListFields"):
                yield from _texts(one)
            else:
                break  # a list of numbers


def _signature(values: object) -> list[tuple[str, int, list[int | None]]]:
    """Name, element type and shape of each; None is a dynamic dimension."""
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [
                dim.dim_value if dim.HasField("dim_value") else None
                for dim in value.type.tensor_type.shape.dim
            ],
        )
        for value in values  # type: ignore[attr-defined]
    ]

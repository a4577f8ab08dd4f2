"""Latency of the models of a run, measured in one go by the runtime that serves."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from export.latency import PROVIDERS, measure_elsewhere
from export.onnx_graph import write_graph
from serve.contract.digest import canonical_json
from train.models.checkpoint import load_checkpoint

__all__ = ["compare_latency", "gpu_is_here"]


def gpu_is_here() -> bool:
    """Whether the runtime that serves can use a GPU on this machine."""
    import onnxruntime

    return torch.cuda.is_available() and PROVIDERS["cuda"] in onnxruntime.get_available_providers()


def compare_latency(
    models: dict[str, Path], *, opset: int, out: Path, device: str = "cpu"
) -> dict[str, float]:
    """Export each checkpoint and time all of them side by side; write latency.json.

    Args:
        models: checkpoint folder, or ONNX file, by name.
        opset: of the ONNX files of checkpoints, which are thrown away.
        out: gets latency.json: ONNX Runtime, one thread, batch 1, pixels in the host's memory.
        device: cpu or cuda.

    Returns:
        Median milliseconds by "<name>_ms".

    Raises:
        MeasurementError: the measuring process failed.
    """
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        paths = []
        for name, path in models.items():
            if path.suffix == ".onnx":
                paths.append(path)
                continue
            model, card = load_checkpoint(path)
            paths.append(Path(scratch) / f"{name}.onnx")
            write_graph(model, card, paths[-1], opset=opset)
        results = measure_elsewhere(paths, device)
    latency = dict(zip(models, results, strict=True))
    (out / "latency.json").write_bytes(canonical_json(latency))
    return {f"{name}_ms": result["median_ms"] for name, result in latency.items()}

"""Latency of several ONNX files side by side: `python -m export.latency cpu A.onnx B.onnx`.

Runs in a process of its own that never imports torch: torch's threads would slow the runtime that
is measured. The files take turns, so a slow moment of the machine hits all of them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["PROVIDERS", "measure"]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
ROUNDS = 40
RUNS_PER_ROUND = 3
WARMUP_RUNS = 5


def measure(
    paths: list[Path], *, rounds: int = ROUNDS, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Time single-image inference on one CPU thread, or on the GPU with the copies to and from it.

    Args:
        paths: ONNX files with one input of shape (batch, H, W, 3) uint8.
        rounds: turns of each file, three runs a turn.
        device: of PROVIDERS.

    Returns:
        For each file its median_ms, the quartiles q1_ms and q3_ms, and n.
    """
    runs = [_open(path, PROVIDERS[device]) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    for run in runs:
        for _ in range(WARMUP_RUNS):
            run()
    for _ in range(rounds):
        for run, collected in zip(runs, times, strict=True):
            for _ in range(RUNS_PER_ROUND):
                start = time.perf_counter()
                run()
                collected.append((time.perf_counter() - start) * 1000)
    return [_summary(collected) for collected in times]


def _open(path: Path, provider: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=[provider])
    if session.get_providers()[0] != provider:  # the runtime falls back without a word
        raise RuntimeError(f"{provider} cannot be used here")
    entry = session.get_inputs()[0]
    images = np.random.default_rng(0).integers(0, 256, (1, *entry.shape[1:]), dtype=np.uint8)
    return lambda: session.run(None, {entry.name: images})


def _summary(times_ms: list[float]) -> dict[str, Any]:
    q1, median, q3 = np.percentile(times_ms, [25, 50, 75])
    return {
        "median_ms": round(float(median), 4),
        "q1_ms": round(float(q1), 4),
        "q3_ms": round(float(q3), 4),
        "n": len(times_ms),
    }


if __name__ == "__main__":
    measured = measure([Path(argument) for argument in sys.argv[2:]], device=sys.argv[1])
    sys.stdout.write(json.dumps(measured))

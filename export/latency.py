"""Latency of several ONNX files side by side: `python -m export.latency cpu 1 A.onnx B.onnx`.

Runs in a process of its own that never imports torch: torch's threads would slow the runtime that
is measured. The files take turns, so a slow moment of the machine hits all of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from serve.contract.errors import MeasurementError

__all__ = ["PROVIDERS", "measure", "measure_elsewhere", "times_elsewhere"]

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
    return [_summary(turns) for turns in times_in_turns(paths, rounds=rounds, device=device)]


def times_in_turns(
    paths: list[Path], *, rounds: int = ROUNDS, device: str = "cpu", batch: int = 1
) -> list[list[list[float]]]:
    """Milliseconds of each inference: by file, turn, and run within the turn.

    Args:
        paths: as of `measure`.
        rounds: as of `measure`.
        device: as of `measure`.
        batch: images in one inference.
    """
    runs = [_open(path, PROVIDERS[device], batch) for path in paths]
    times: list[list[list[float]]] = [[] for _ in paths]
    for run in runs:
        for _ in range(WARMUP_RUNS):
            run()
    for _ in range(rounds):
        for run, collected in zip(runs, times, strict=True):
            collected.append([_time_ms(run) for _ in range(RUNS_PER_ROUND)])
    return times


def measure_elsewhere(paths: list[Path], device: str = "cpu") -> list[dict[str, Any]]:
    """`measure` in a process of its own.

    Raises:
        MeasurementError: the process failed.
    """
    return [_summary(turns) for turns in times_elsewhere(paths, device=device)]


def times_elsewhere(
    paths: list[Path], *, device: str = "cpu", batch: int = 1
) -> list[list[list[float]]]:
    """`times_in_turns` in a process of its own.

    Raises:
        MeasurementError: the process failed.
    """
    command = [
        sys.executable,
        "-m",
        "export.latency",
        device,
        str(batch),
        *(str(path.resolve()) for path in paths),
    ]
    source = Path(__file__).parents[1]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", cwd=source, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise MeasurementError(
            f"The latency measurement ended with code {done.returncode}: {' '.join(last)}."
        )
    times: list[list[list[float]]] = json.loads(done.stdout)
    return times


def _open(path: Path, provider: str, batch: int) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=[provider])
    if session.get_providers()[0] != provider:  # the runtime falls back without a word
        raise RuntimeError(f"{provider} cannot be used here")
    entry = session.get_inputs()[0]
    images = np.random.default_rng(0).integers(0, 256, (batch, *entry.shape[1:]), dtype=np.uint8)
    return lambda: session.run(None, {entry.name: images})


def _time_ms(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def _summary(turns: list[list[float]]) -> dict[str, Any]:
    times_ms = np.concatenate(turns)
    q1, median, q3 = np.percentile(times_ms, [25, 50, 75])
    return {
        "median_ms": round(float(median), 4),
        "q1_ms": round(float(q1), 4),
        "q3_ms": round(float(q3), 4),
        "n": len(times_ms),
    }


if __name__ == "__main__":
    device, batch, *files = sys.argv[1:]
    timed = times_in_turns([Path(file) for file in files], device=device, batch=int(batch))
    sys.stdout.write(json.dumps(timed))

"""Whether a file of reduced precision is worth it here: timed in turns with fp32, same runtime."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from export.latency import times_elsewhere

__all__ = ["WORTH_IT", "Benefit", "Timing", "measure_benefit", "measure_speedup"]

WORTH_IT = 1.05  # times as fast as fp32; less is within run-to-run noise


@dataclass(frozen=True)
class Timing:
    """One file beside the baseline, at one batch size.

    Args:
        batch: images in one inference.
        median_ms: of one inference.
        baseline_ms: median of the fp32 file, measured in the same turns.
        images_per_s: batch over median.
        speedup: median over all turns of the baseline's time divided by the file's; above 1 is
            faster.
        speedup_q1: lower quartile over the turns.
        speedup_q3: upper quartile over the turns.
        turns: number of them.
    """

    batch: int
    median_ms: float
    baseline_ms: float
    images_per_s: float
    speedup: float
    speedup_q1: float
    speedup_q3: float
    turns: int


@dataclass(frozen=True)
class Benefit:
    """Protocol stage P6 for one file.

    Args:
        verdict: by the latency of one image: "worth it" from 1.05 times as fast as fp32, "slower
            here" where it is slower, else "no faster".
        latency: of one image.
        throughput: of a larger batch.
        device: cpu (one thread) or cuda.
    """

    verdict: Literal["worth it", "no faster", "slower here"]
    latency: Timing
    throughput: Timing
    device: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def measure_benefit(
    baseline: Path, candidates: list[Path], *, device: str = "cpu", batch: int = 8
) -> list[Benefit]:
    """Time candidates against the fp32 file, in a process of its own without torch.

    Args:
        baseline: the fp32 file.
        candidates: files with the same input.
        device: cpu or cuda.
        batch: of the throughput.

    Raises:
        MeasurementError: the measuring process failed.
    """
    paths = [baseline, *candidates]
    single = _timings(times_elsewhere(paths, device=device), 1)
    many = _timings(times_elsewhere(paths, device=device, batch=batch), batch)
    return [
        Benefit(verdict_of(latency.speedup), latency, throughput, device)
        for latency, throughput in zip(single, many, strict=True)
    ]


def measure_speedup(baseline: Path, candidate: Path, *, device: str = "cpu") -> float:
    """Latency of one image with the fp32 file divided by that with the candidate.

    Raises:
        MeasurementError: the measuring process failed.
    """
    return _timings(times_elsewhere([baseline, candidate], device=device), 1)[0].speedup


def verdict_of(speedup: float) -> Literal["worth it", "no faster", "slower here"]:
    """In words."""
    if speedup >= WORTH_IT:
        return "worth it"
    return "slower here" if speedup < 1 else "no faster"


def _timings(times_ms: list[list[list[float]]], batch: int) -> list[Timing]:
    """Compare turn by turn: of (files, turns, runs), each turn counts by its median."""
    turns = np.median(np.array(times_ms), axis=2)
    found = []
    for own in turns[1:]:
        q1, speedup, q3 = np.percentile(turns[0] / own, [25, 50, 75])
        median_ms = float(np.median(own))
        found.append(
            Timing(
                batch=batch,
                median_ms=round(median_ms, 4),
                baseline_ms=round(float(np.median(turns[0])), 4),
                images_per_s=round(1000 * batch / median_ms, 1),
                speedup=round(float(speedup), 3),
                speedup_q1=round(float(q1), 3),
                speedup_q3=round(float(q3), 3),
                turns=len(own),
            )
        )
    return found

"""The automatic fallback: layer after layer back to float, until int8 passes or is not faster."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from export.precision.layer_sensitivity import sensitivity_of_nodes
from export.precision.node_noise import NodeNoise, noise_of_nodes
from export.precision.quantize import Target, write_int8
from export.precision.speedup import WORTH_IT
from serve.contract.artifact import MODEL

__all__ = ["FileVerdict", "Search", "SearchTrial", "search_int8"]

NOISE_IMAGES = 16


@dataclass(frozen=True)
class FileVerdict:
    """What the gate says of a file.

    Args:
        passed: nothing less than that; an inconclusive verdict is not passed.
        figures: for the report, JSON.
    """

    passed: bool
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchTrial:
    """One int8 file that was tried.

    Args:
        keep_float: nodes that were left in float, the most harmful first.
        passed: the gate.
        figures: of the gate.
        speedup: latency of fp32 divided by that of this file; None where it was not measured.
        bytes: of the file.
    """

    keep_float: tuple[str, ...]
    passed: bool
    figures: dict[str, Any]
    speedup: float | None
    bytes: int


@dataclass(frozen=True)
class Search:
    """Outcome of a search.

    Args:
        status: passed: a file passes and is faster. slower: no file that passes is faster by
            enough, so that int8 is not worth it here. failed: no file passes.
        attempts: all that was tried, in order.
        chosen: the attempt that passed, also where it is slower; its file is at the path asked for.
        harm: SNR of the logits with each node alone in int8, worst first; empty where all of them
            could stay in int8.
    """

    status: Literal["passed", "slower", "failed"]
    attempts: tuple[SearchTrial, ...]
    chosen: SearchTrial | None
    harm: tuple[NodeNoise, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def search_int8(
    source: Path,
    path: Path,
    pixels: NDArray[np.uint8],
    *,
    judge_file: Callable[[Path], FileVerdict],
    speedup_of: Callable[[Path], float] | None = None,
    target: Target = "onnxruntime",
    min_speedup: float = WORTH_IT,
) -> Search:
    """Quantise everything; where the gate says no, leave 1, 2, 4, 8 ... of the worst in float.

    Calibrates once. Equal answers of the two functions give an equal search.

    Args:
        source: fp32 ONNX file.
        path: of the chosen file; there is none where none is chosen.
        pixels: (N, H, W, 3) uint8 calibration images.
        judge_file: the parity gate, on other images than the calibration's. The file it gets is
            called model.onnx, as a runner wants it.
        speedup_of: latency of fp32 divided by the file's, both here; None where it cannot be
            measured: then at most half of the nodes go back to float.
        target: of the file.
        min_speedup: below this, int8 is not worth it and the search ends.

    Raises:
        UsageError: the source is not an fp32 ONNX file.
    """
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        made, ranges = Path(scratch) / MODEL, Path(scratch) / "ranges.json"
        attempts: list[SearchTrial] = []

        def attempt(keep_float: tuple[str, ...]) -> SearchTrial:
            write_int8(source, made, pixels, target=target, keep_float=keep_float, ranges=ranges)
            verdict = judge_file(made)
            speedup = None if speedup_of is None else speedup_of(made)
            size = made.stat().st_size
            attempts.append(SearchTrial(keep_float, verdict.passed, verdict.figures, speedup, size))
            return attempts[-1]

        harm: list[NodeNoise] = []
        last = attempt(())
        if _goes_on(last, min_speedup):
            noise = noise_of_nodes(source, made, pixels[:NOISE_IMAGES])
            nodes = {node.name for node in noise}
            harm = sensitivity_of_nodes(source, pixels, nodes=nodes, target=target, ranges=ranges)
            for count in _counts(len(harm), measured=speedup_of is not None):
                last = attempt(tuple(node.name for node in harm[:count]))
                if not _goes_on(last, min_speedup):
                    break
        if last.passed:
            shutil.copyfile(made, path)
    chosen = last if last.passed else None
    return Search(_status(last, min_speedup), tuple(attempts), chosen, tuple(harm))


def _goes_on(attempt: SearchTrial, min_speedup: float) -> bool:
    return not attempt.passed and not _is_slow(attempt, min_speedup)


def _is_slow(attempt: SearchTrial, min_speedup: float) -> bool:
    return attempt.speedup is not None and attempt.speedup < min_speedup


def _status(last: SearchTrial, min_speedup: float) -> Literal["passed", "slower", "failed"]:
    if _is_slow(last, min_speedup):
        return "slower"
    return "passed" if last.passed else "failed"


def _counts(nodes: int, *, measured: bool) -> list[int]:
    """1, 2, 4, 8 ... nodes in float; never all, which would be the fp32 file."""
    most = nodes - 1 if measured else nodes // 2
    return [2**power for power in range(most.bit_length()) if 2**power <= most]

"""Seven faults of an export, planted: each gives a candidate and what its diagnosis may know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from export.diagnose.diagnosis import FailedCandidate, SuspectResult, diagnose, explain
from export.diagnose.graph_edits import logits_of
from export.parity.compare import ModelOutputs, Verdict, compare_outputs, require_pass
from export.parity.tolerances import LIMITS, Precision
from serve.contract.errors import GateError

Pixels = NDArray[np.uint8]
Edit = Callable[[NDArray[np.float32]], object]


@dataclass(frozen=True)
class Bench:
    """A sound fp32 file with its reference, on which faults are planted.

    Args:
        folder: for the files.
        reference: its predictions on N images.
        pixels: (N, H, W, 3) of them.
        graph: the sound file.
        normalisation: mean and std inside.
        resized: (filter, names) -> pixels.
        calibration: (M, H, W, 3) other images.
        stem: name of the first weights.
        head: names of weights and bias of the classifier, each with K rows.
    """

    folder: Path
    reference: ModelOutputs
    pixels: Pixels
    graph: Path
    normalisation: tuple[tuple[float, ...], tuple[float, ...]]
    resized: Callable[[str, Sequence[str]], Pixels]
    calibration: Pixels
    stem: str
    head: tuple[str, ...]


@dataclass(frozen=True)
class Planted:
    """A candidate: a file, what it is fed, and its precision."""

    model: Path
    pixels: Pixels
    precision: Precision = "fp32"
    swapped: bool = False  # red and blue, before the file sees them

    def infer(self, pixels: Pixels) -> NDArray[np.float32]:
        """Its logits."""
        fed = np.ascontiguousarray(pixels[..., ::-1]) if self.swapped else pixels
        return logits_of(self.model.read_bytes(), fed)


def sound(bench: Bench) -> Planted:
    return Planted(bench.graph, bench.pixels)


def sound_int8(bench: Bench) -> Planted:
    return quantised(bench, bench.calibration, name="sound-int8")


def bgr(bench: Bench) -> Planted:
    return Planted(bench.graph, bench.pixels, swapped=True)


def wrong_normalisation(bench: Bench) -> Planted:
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    if bench.normalisation == (mean, std):
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    scale = 1 / (255 * np.array(std)).reshape(1, 3, 1, 1)
    shift = -(np.array(mean) / np.array(std)).reshape(1, 3, 1, 1)
    path = bench.folder / "normalisation.onnx"
    edits = {"scale": lambda a: a.__setitem__(..., scale), "shift": lambda a: np.copyto(a, shift)}
    return Planted(edited(bench.graph, path, edits), bench.pixels)


def other_resize_filter(bench: Bench) -> Planted:
    return Planted(bench.graph, bench.resized("bilinear", bench.reference.names))


def per_tensor_int8(bench: Bench) -> Planted:
    return quantised(bench, bench.calibration, name="per-tensor", per_channel=False)


def noise_calibration(bench: Bench) -> Planted:
    random = np.random.default_rng(0)
    noise = random.normal(128, 20, bench.calibration.shape).clip(0, 255).astype(np.uint8)
    return quantised(bench, noise, name="noise")


def corrupted_initialiser(bench: Bench) -> Planted:
    path = bench.folder / "corrupted.onnx"

    def add(weights: NDArray[np.float32]) -> None:
        weights[0, 0, 0, 0] += 0.05

    return Planted(edited(bench.graph, path, {bench.stem: add}), bench.pixels)


def swapped_labels(bench: Bench) -> Planted:
    """The first three labels moved on by one."""

    def turn(rows: NDArray[np.float32]) -> None:
        rows[:3] = rows[[2, 0, 1]]

    path = bench.folder / "labels.onnx"
    return Planted(edited(bench.graph, path, dict.fromkeys(bench.head, turn)), bench.pixels)


# The fault, the cause that its diagnosis names, and words of its own message.
FAULTS: list[tuple[Callable[[Bench], Planted], str, list[str]]] = [
    (bgr, "BGR", ["Swapping red and blue restores", "BGR where the contract says RGB"]),
    (
        wrong_normalisation,
        "mean/std",
        ["Normalising with mean", "restores", "the file normalises with mean"],
    ),
    (other_resize_filter, "resize bicubic", ["Resizing with the filter 'bicubic' restores"]),
    (
        per_tensor_int8,
        "per-tensor weights",
        ["weights in float restores", "have one scale for all their channels", "per_channel"],
    ),
    (
        noise_calibration,
        "calibration",
        ["activations in float restores", "images reach", "Calibrate again on training"],
    ),
    (corrupted_initialiser, "initialisers", ["Putting back 1 of", "differs by 0.05 at [0, 0, 0"]),
    (swapped_labels, "swapped labels", ["Putting 3 of", "in another order restores", "belongs"]),
]


def judged(bench: Bench, planted: Planted) -> tuple[Verdict, FailedCandidate]:
    """The verdict at the candidate's precision, and what a diagnosis is given."""
    logits = planted.infer(planted.pixels)
    limits = LIMITS[planted.precision]
    verdict = compare_outputs(bench.reference, logits, limits, min_images=300)
    suspects = FailedCandidate(
        bench.reference,
        logits,
        planted.pixels,
        planted.infer,
        limits,
        model=planted.model,
        fp32=None if planted.precision == "fp32" else bench.graph,
        fresh=bench.graph,
        normalisation=bench.normalisation,
        resized=bench.resized,
    )
    return verdict, suspects


def message_of(bench: Bench, planted: Planted, what: str) -> tuple[str, list[SuspectResult]]:
    """The gate's whole message and the findings; empty where the gate lets it pass."""
    verdict, suspects = judged(bench, planted)
    findings = diagnose(suspects) if verdict.status == "failed" else []
    try:
        require_pass(verdict, what=what, causes=explain(findings))
    except GateError as error:
        return str(error), findings
    return "", findings


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pixels: Pixels) -> None:
        self.batches = iter([{"image": pixels[i : i + 16]} for i in range(0, len(pixels), 16)])

    def get_next(self) -> Any:
        return next(self.batches, None)


def quantised(bench: Bench, calibration: Pixels, *, name: str, per_channel: bool = True) -> Planted:
    path = bench.folder / f"{name}.onnx"
    logging.disable(logging.WARNING)  # it recommends a preparation that changes nothing here
    try:
        quantize_static(
            str(bench.graph),
            str(path),
            Reader(calibration),
            per_channel=per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    return Planted(path, bench.pixels, "int8")


def edited(source: Path, path: Path, edits: dict[str, Edit]) -> Path:
    """A copy of a file with changed initialisers."""
    model = onnx.load(source)
    found = {item.name: item for item in model.graph.initializer if item.name in edits}
    assert found.keys() == edits.keys()
    for name, item in found.items():
        value = numpy_helper.to_array(item).copy()
        edits[name](value)
        item.CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(model, path)
    return path


def with_logits(reference: ModelOutputs, logits: NDArray[np.float32]) -> ModelOutputs:
    return replace(reference, logits=logits)

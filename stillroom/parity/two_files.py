"""`stillroom parity --reference a.onnx --candidate b.onnx`: any two classifiers, on images.

Needs ONNX Runtime and no torch. What a file does not say, the options must.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from export.diagnose.diagnosis import FailedCandidate, diagnose, explain
from export.foreign.label_file import read_labels
from export.foreign.onnx_file import OnnxClassifier, ends_in_softmax
from export.foreign.preprocess_choice import PreprocessChoice
from export.options import ParityLimits
from export.parity.batching import batch_invariance, mixed_batch_logits
from export.parity.compare import ModelOutputs, compare_outputs
from export.parity.image_set import ImageSet, read_image_set
from export.parity.machine import machine_identity
from export.parity.tolerances import LIMITS, Precision
from serve.contract.digest import sha256_of_file
from serve.contract.errors import UsageError
from stillroom.parity.common_input import common_labels, common_spec
from stillroom.parity.console import report_verdict

__all__ = ["FilesRequest", "compare_files"]


@dataclass(frozen=True)
class FilesRequest:
    """What the user asked for.

    Args:
        reference: the ONNX file whose answers are right.
        candidate: the one that is judged.
        photos: folder or list of images; labels are not needed.
        precision: of the candidate: its limits.
        choice: preprocessing that no file says.
        labels: file of class names, one a line.
        out: gets parity.json and flips.csv.
        strict: too few images are a failure.
    """

    reference: Path
    candidate: Path
    photos: Path
    precision: str = "fp32"
    choice: PreprocessChoice = field(default_factory=PreprocessChoice)
    labels: Path | None = None
    out: Path | None = None
    strict: bool = False


def compare_files(request: FilesRequest) -> None:
    """Answer every image with both files, judge, print and write the verdict.

    Raises:
        UsageError: a file cannot be used, files do not go together, or options are missing: it
            names them.
        GateError: the candidate answers otherwise; or, if strict, too few images to say.
    """
    if request.precision not in LIMITS:
        raise UsageError(
            f"--precision {request.precision!r}: expected one of {', '.join(LIMITS)}.",
            "It is the candidate's, and says how much may differ.",
        )
    choice = request.choice
    paths = (request.reference, request.candidate)
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(OnnxClassifier(path, mean=choice.mean, std=choice.std))
            for path in paths
        )
        _compare(request, first, second)


def _compare(request: FilesRequest, first: OnnxClassifier, second: OnnxClassifier) -> None:
    spec = common_spec(first, second, request.choice)
    named = read_labels(request.labels) if request.labels else common_labels(first, second)
    probes = read_image_set(request.photos, spec, named)
    reference = _reference(first, probes)
    candidate = mixed_batch_logits(second, probes.pixels)
    labels = named or tuple(f"class {number}" for number in range(reference.shape[1]))
    _check_scores(request, reference, candidate, labels)
    answers = ModelOutputs(probes.names, probes.sha256, labels, reference, probes.targets)
    blank = np.stack([np.full(probes.pixels.shape[1:], level, np.uint8) for level in (0, 255)])
    limits = LIMITS[cast("Precision", request.precision)]
    source = _ours(first)
    verdict = compare_outputs(
        answers,
        candidate,
        limits,
        min_images=ParityLimits.min_images,
        invariance=batch_invariance(second, probes.pixels, candidate),
        blank=(mixed_batch_logits(first, blank), mixed_batch_logits(second, blank)),
    )
    suspects = FailedCandidate(
        answers,
        candidate,
        probes.pixels,
        partial(mixed_batch_logits, second),
        limits,
        model=_ours(second),
        fp32=source if request.precision != "fp32" else None,
        fresh=source if request.precision == "fp32" else None,
    )
    facts: dict[str, Any] = {
        "reference": _facts(first),
        "candidate": _facts(second),
        "preprocess": spec.to_dict(),
        "precision": request.precision,
        "limits": asdict(limits),
        "machine": machine_identity(),
    }
    report_verdict(
        verdict,
        what=f"{request.precision} {request.candidate}",
        facts=facts,
        out=request.out,
        strict=request.strict,
        probes=probes,
        next_step="Do not put the candidate in the reference's place.",
        causes=explain(diagnose(suspects)) if verdict.status == "failed" else (),
    )


def _ours(file: OnnxClassifier) -> Path | None:
    """A file whose input is that of our own exports, which is what diagnosis can edit and run."""
    layout = file.layout
    ours = layout.dtype == np.uint8 and layout.order == "NHWC" and layout.batch is None
    return file.path if ours else None


def _check_scores(
    request: FilesRequest,
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    labels: tuple[str, ...],
) -> None:
    if reference.shape != candidate.shape:
        raise UsageError(
            f"The files answer with {reference.shape[1]} and {candidate.shape[1]} scores.",
            "Name two exports of one model.",
        )
    if len(labels) != reference.shape[1]:
        raise UsageError(
            f"{len(labels)} class names, and {reference.shape[1]} scores.",
            "Write one name for each output into --labels, in their order.",
        )
    for path, scores in ((request.reference, reference), (request.candidate, candidate)):
        if ends_in_softmax(scores):
            raise UsageError(
                f"{path} answers with probabilities; limits are known for logits alone.",
                "Export it without the softmax at its end.",
            )


def _reference(file: OnnxClassifier, probes: ImageSet) -> NDArray[np.float32]:
    scores = mixed_batch_logits(file, probes.pixels)
    if not np.isfinite(scores).all():
        raise UsageError(
            f"The reference {file.path} answers NaN or infinity, so nothing can be compared with "
            "it.",
            "Name another reference, or check mean and std.",
        )
    return scores


def _facts(file: OnnxClassifier) -> dict[str, Any]:
    return {"name": file.path.name, "sha256": sha256_of_file(file.path), **file.describe()}

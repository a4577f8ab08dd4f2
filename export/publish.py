"""From a graph to an artifact: answers, verdict and evidence first, then what a server needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import PIL
from numpy.typing import NDArray

from export.answers import batch_invariance, mixed_batch_logits
from export.golden import write_golden, write_reference
from export.graph import INPUT, OUTPUT
from export.options import ExportOptions
from export.parity import Verdict, judge, require_pass, write_flips
from serve.contract.artifact import MODEL, Artifact
from serve.contract.digest import canonical_json, sha256_of_file
from serve.contract.errors import GateError
from serve.runner import open_runner
from train.batches import pixels_of
from train.checkpoint import ModelCard
from train.dataset import Dataset
from train.evaluate import Predictions, predict_logits
from train.models import PhotoClassifier
from train.photos import Photo
from train.progress import say

__all__ = ["Asked", "Subject", "describe", "publish"]

GOLDEN_ATOL_SD = 0.02  # of the logits' standard deviation: above TF32's rounding, below any fault


@dataclass(frozen=True)
class Subject:
    """What an artifact is made of.

    Args:
        model: the reference: PyTorch, fp32, on the CPU.
        card: of the model.
        name: of the served model.
        precision: of the graph.
        target: runtime that the file is made for, where it is not every one; "" else.
    """

    model: PhotoClassifier
    card: ModelCard
    name: str
    precision: str = "fp32"
    target: str = ""

    @property
    def title(self) -> str:
        """For messages."""
        target = f" for {self.target}" if self.target else ""
        return f"{self.precision}{target} {self.card.arch}"


@dataclass(frozen=True)
class Asked:
    """Photographs that both are asked about.

    Args:
        root: the folder that their paths are relative to.
        photos: N photographs.
        pixels: (N, size_px, size_px, 3) uint8, through the serving preprocess.
    """

    root: Path
    photos: list[Photo]
    pixels: NDArray[np.uint8]

    @classmethod
    def of(cls, dataset: Dataset, photos: list[Photo], card: ModelCard) -> Asked:
        """Photographs of a dataset as a model's server sees them."""
        return cls(dataset.root, photos, pixels_of(dataset.root, photos, card.preprocess))


def publish(
    subject: Subject,
    gate: Asked,
    test: Asked | None,
    options: ExportOptions,
    *,
    out: Path,
    check: Callable[[Predictions], None] = lambda answers: None,
    extra: Mapping[str, Any] | None = None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Judge `out`/model.onnx and write the other files of its artifact, if its answers hold.

    Args:
        subject: what the file must answer as.
        gate: photographs that decide; none of test.
        test: photographs whose verdict is reported and decides nothing.
        options: limits, and how strict they are.
        out: holds model.onnx, whose structure was checked.
        check: gets the reference's answers on test before anything is judged, and may refuse them.
        extra: further fields of the manifest.

    Returns:
        Headline metrics, and the artifact's fields for the manifest.

    Raises:
        GateError: the graph answers differently, or too few images say that it does not;
            flips.csv and parity.json say how, and nothing may be published.
    """
    reference = _reference(subject, gate)
    tested = _reference(subject, test) if test and test.photos else None
    if tested:
        check(tested)
    with _open(subject, out, options.max_batch_size) as runner:
        candidate = mixed_batch_logits(runner, gate.pixels)
        invariance = batch_invariance(runner, gate.pixels, candidate)
        answers = mixed_batch_logits(runner, test.pixels) if test and tested else None
        blank = _blank_images(subject.card)
        on_blank = predict_logits(subject.model, blank), runner.infer(blank)
        facts = runner.describe()
    limits, min_images = options.parity.of(subject.precision), options.parity.min_images
    verdict = judge(
        reference, candidate, limits, min_images=min_images, invariance=invariance, blank=on_blank
    )
    report = None
    if tested is not None and answers is not None:
        report = judge(tested, answers, limits, min_images=min_images)
    parity: dict[str, Any] = {
        "precision": subject.precision,
        "runner": facts,
        "images_of": _counts(gate.photos),
        "limits": asdict(limits),
        **verdict.to_dict(),
        "test": report.to_dict() if report else None,
    }
    write_flips(out / "flips.csv", verdict, report)
    (out / "parity.json").write_bytes(canonical_json(parity))
    require_pass(verdict, what=subject.title)  # after the evidence is written
    _refuse_inconclusive(subject, verdict, options)
    say(f"  {describe(verdict)}")
    atol = _golden_atol(subject, verdict)
    write_reference(out / "reference.csv", *(r for r in (reference, tested) if r))
    write_golden(
        out / "golden",
        gate.root,
        reference,
        gate.pixels,
        stored=reference.logits if subject.precision == "fp32" else candidate,
        count=options.golden_images,
        min_margin=2 * atol,
    )
    fields = {**_fields(subject, out / MODEL, atol), "parity": parity, **(extra or {})}
    return _metrics(verdict, report, out / MODEL), fields


def describe(verdict: Verdict) -> str:
    """The verdict in one line."""
    return (
        f"parity {verdict.status}: {verdict.images - len(verdict.flips)} of {verdict.images} "
        f"answers agree (at least {verdict.agreement_low:.2%}), SNR {verdict.snr_db:.0f} dB, "
        f"largest difference {verdict.max_abs_diff:.1e}"
    )


def _open(subject: Subject, out: Path, max_batch_size: int) -> Any:
    """The runner that will serve, on a file that is not published yet."""
    unpublished = Artifact(
        root=out,
        name="candidate",
        version="",
        digest="",
        labels=subject.card.labels,
        preprocess=subject.card.preprocess,
        precision=subject.precision,
        golden_atol=0.0,
        manifest={"files": {MODEL: sha256_of_file(out / MODEL)}},
    )
    return open_runner(unpublished, max_batch_size=max_batch_size)


def _reference(subject: Subject, asked: Asked) -> Predictions:
    logits = predict_logits(subject.model, asked.pixels)
    return Predictions(asked.photos, subject.card.labels, logits)


def _blank_images(card: ModelCard) -> NDArray[np.uint8]:
    side = card.preprocess.size_px
    return np.stack([np.full((side, side, 3), level, np.uint8) for level in (0, 255)])


def _refuse_inconclusive(subject: Subject, verdict: Verdict, options: ExportOptions) -> None:
    if verdict.status != "inconclusive" or not (options.strict or subject.precision != "fp32"):
        return
    why = (
        "export.strict asks for a verdict"
        if subject.precision == "fp32"
        else f"an unproven {subject.precision} file is not published"
    )
    raise GateError(
        f"PARITY INCONCLUSIVE {subject.title}: {'; '.join(verdict.reasons)}. No answer of "
        f"{verdict.images} flipped by more than the limits, but as few images could hide "
        f"{1 - verdict.agreement_low:.1%} of flips, and {why}.",
        "Give more photographs of each class.",
    )


def _golden_atol(subject: Subject, verdict: Verdict) -> float:
    """How far the golden logits may be off on the backend that serves.

    A reduced file's golden logits are its own; kernels of another machine may round its values
    to a neighbouring level, and may not add as much noise as the reduction itself did.
    """
    atol = GOLDEN_ATOL_SD * verdict.sd
    return atol if subject.precision == "fp32" else max(atol, verdict.max_abs_diff / 2)


def _counts(photos: list[Photo]) -> dict[str, int]:
    splits = [photo.split for photo in photos]
    return {split: splits.count(split) for split in sorted(set(splits))}


def _metrics(verdict: Verdict, test: Verdict | None, path: Path) -> dict[str, float]:
    metrics: dict[str, float] = {
        "parity_images": verdict.images,
        "parity_flips": len(verdict.flips),
        "parity_snr_db": verdict.snr_db,
        "parity_max_abs_diff": verdict.max_abs_diff,
        "model_bytes": path.stat().st_size,
    }
    if test:
        metrics["test_flips"] = len(test.flips)
        metrics["test_top1"] = test.candidate_top1 or 0.0
    return metrics


def _fields(subject: Subject, path: Path, atol: float) -> dict[str, Any]:
    card = subject.card
    opset = next(e.version for e in onnx.load(path).opset_import if e.domain == "")
    size_px = card.preprocess.size_px
    return {
        "name": subject.name,
        "version": sha256_of_file(path)[:12],
        "arch": subject.model.arch,
        "labels": list(card.labels),
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "layout": "NHWC",
            "shape": [None, size_px, size_px, 3],
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": [None, len(card.labels)]},
        "preprocess": card.preprocess.to_dict(),
        "preprocess_digest": card.preprocess.digest,
        "normalisation": {"mean": list(card.mean), "std": list(card.std)},
        "precision": subject.precision,
        **({"target": subject.target} if subject.target else {}),
        "opset": opset,
        "golden_atol": atol,
        "pillow": PIL.__version__,
    }

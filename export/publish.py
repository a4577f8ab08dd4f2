"""From a graph to an artifact: verdict and evidence first, then what a server needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import PIL

from export.gate import GateResult, ReferenceModel, ReferenceSet, Suspicion, judge_file
from export.golden import write_golden, write_reference
from export.onnx_graph import INPUT, OUTPUT
from export.options import ExportOptions
from export.parity.machine import machine_identity
from export.parity.statistics import agreement_lower_bound
from export.parity.verdict import Verdict, require_pass, write_flips
from serve.contract.artifact import MODEL
from serve.contract.digest import canonical_json, sha256_of_file
from serve.contract.errors import GateError
from train.engine.progress import say

__all__ = ["describe", "publish", "require_images"]

ADVICE = "Give more images of each class."
GOLDEN_ATOL_SD = 0.02  # of the logits' standard deviation: above TF32's rounding, below any fault


def publish(
    subject: ReferenceModel,
    gate: ReferenceSet,
    test: ReferenceSet | None,
    options: ExportOptions,
    *,
    out: Path,
    suspects: Suspicion = lambda known: known,
    advice: str = ADVICE,
    extra: Mapping[str, Any] | None = None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Judge `out`/model.onnx and write the other files of its artifact, if its predictions hold.

    Args:
        subject: what the file must answer as.
        gate: images that decide; none of test.
        test: images whose verdict is reported and decides nothing.
        options: limits, and how strict they are.
        out: holds model.onnx, whose structure was checked.
        suspects: adds what the caller knows to what a failure is diagnosed from.
        advice: what to do where the images are too few.
        extra: further fields of the manifest.

    Returns:
        Headline metrics, and the artifact's fields for the manifest.

    Raises:
        GateError: the graph answers differently, or too few images say that it does not;
            flips.csv and parity.json say how, and nothing may be published.
    """
    judged = judge_file(subject, out / MODEL, gate, test, options, suspects)
    verdict = judged.verdict
    parity: dict[str, Any] = {
        "precision": subject.precision,
        "runner": judged.runner,
        "images_of": _counts(gate),
        "limits": asdict(options.parity.of(subject.precision)),
        "min_images": options.parity.min_images,
        "machine": machine_identity(),
        **verdict.to_dict(),
        "test": judged.test.to_dict() if judged.test else None,
    }
    write_flips(out / "flips.csv", verdict, judged.test)
    (out / "parity.json").write_bytes(canonical_json(parity))
    require_pass(verdict, what=subject.title, causes=judged.causes)  # after the evidence is written
    if verdict.status == "inconclusive":
        _refuse_inconclusive(subject, verdict, options, advice)
    say(f"  {describe(verdict)}")
    atol = _golden_atol(subject, verdict)
    asked = [gate, *([test] if test else [])]
    write_reference(out / "reference.csv", *(one.predictions for one in asked))
    # A reduced file repeats its own predictions, which are not quite those of the reference.
    repeated = gate.predictions
    if subject.precision != "fp32":
        repeated = replace(repeated, logits=judged.logits)
    write_golden(
        out / "golden",
        gate.root,
        repeated,
        gate.pixels,
        count=options.golden_images,
        min_margin=2 * atol,
    )
    fields = {**_fields(subject, out / MODEL, atol), "parity": parity, **(extra or {})}
    return _metrics(judged, out / MODEL), fields


def describe(verdict: Verdict) -> str:
    """The verdict in one line."""
    return (
        f"parity {verdict.status}: {verdict.images - len(verdict.flips)} of {verdict.images} "
        f"predictions agree (at least {verdict.agreement_low:.2%}), SNR {verdict.snr_db:.0f} dB, "
        f"largest difference {verdict.max_abs_diff:.1e}"
    )


def require_images(subject: ReferenceModel, images: int, options: ExportOptions) -> None:
    """Stop before a reduced file is made that too few images are there to prove.

    Raises:
        GateError: fewer than the gate wants.
    """
    if subject.precision == "fp32" or images >= options.parity.min_images:
        return
    shown = agreement_lower_bound(images, images)
    raise GateError(
        f"PARITY INCONCLUSIVE {subject.title}: {images} images < {options.parity.min_images}, and "
        f"an unproven {subject.precision} file is not published, so it was not made.",
        f"{ADVICE} {_less_proof(subject, images, shown, options)}",
    )


def _refuse_inconclusive(
    subject: ReferenceModel, verdict: Verdict, options: ExportOptions, advice: str
) -> None:
    """Few images prove little: enough for fp32 unless a verdict is asked for, for no other."""
    if subject.precision == "fp32" and not options.strict:
        say(f"  {'; '.join(verdict.reasons)}. {advice}")
        return
    why = "a verdict was asked for (strict)"
    if subject.precision != "fp32":
        why = f"an unproven {subject.precision} file is not published"
        advice += f" {_less_proof(subject, verdict.images, verdict.agreement_low, options)}"
    raise GateError(
        f"PARITY INCONCLUSIVE {subject.title}: {'; '.join(verdict.reasons)}, and {why}. "
        f"{len(verdict.flips)} of {verdict.images} predictions flipped; of all there are, "
        f"{1 - verdict.agreement_low:.1%} could.",
        f"Nothing was published. {advice}",
    )


def _less_proof(subject: ReferenceModel, images: int, shown: float, options: ExportOptions) -> str:
    """Overrides with which so many images, and the agreement that they show, are enough."""
    parity, told = options.parity, []
    if images < parity.min_images:
        told.append(f"export.parity.min_images={images}")
    if shown < parity.of(subject.precision).min_agreement:
        least = math.floor(100 * shown) / 100
        told.append(f"export.parity.{subject.precision}.min_agreement={least:g}")
    return f"Or be content with less proof: {' '.join(told)}"


def _golden_atol(subject: ReferenceModel, verdict: Verdict) -> float:
    """How far the golden logits may be off on the backend that serves.

    Kernels of another machine may round an int8 value to a neighbouring level, but may not add as
    much noise again as the reduction itself did.
    """
    atol = GOLDEN_ATOL_SD * verdict.sd
    return atol if subject.precision == "fp32" else max(atol, verdict.max_abs_diff / 2)


def _counts(gate: ReferenceSet) -> dict[str, int]:
    splits = [photo.split or "given" for photo in gate.photos]
    return {split: splits.count(split) for split in sorted(set(splits))}


def _metrics(judged: GateResult, path: Path) -> dict[str, float]:
    verdict, test = judged.verdict, judged.test
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


def _fields(subject: ReferenceModel, path: Path, atol: float) -> dict[str, Any]:
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

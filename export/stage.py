"""The export stage: checkpoint -> ONNX -> verdict -> the files of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import PIL
from numpy.typing import NDArray

from export.answers import batch_invariance, mixed_batch_logits
from export.golden import write_golden, write_reference
from export.graph import INPUT, OUTPUT, check_structure, write_graph
from export.options import ExportOptions, ParityLimits
from export.parity import Verdict, judge, require_pass, write_flips
from serve.contract.artifact import MODEL, Artifact
from serve.contract.digest import canonical_json, sha256_of_file
from serve.contract.errors import GateError
from serve.runner import open_runner
from train.batches import pixels_of
from train.checkpoint import ModelCard, load_checkpoint
from train.evaluate import Predictions, predict_logits, read_predictions
from train.models import PhotoClassifier
from train.progress import say
from train.stage import Dataset

__all__ = ["export_artifact"]

GOLDEN_ATOL_SD = 0.02  # of the logits' standard deviation: above TF32's rounding, below any fault


def export_artifact(
    dataset: Dataset, source: Path, options: ExportOptions, *, name: str, out: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Export a checkpoint and write the artifact's files, if its answers hold.

    Args:
        dataset: its test split is what parity is judged on.
        source: a folder with a checkpoint and its predictions.csv.
        options: opset, limits.
        name: of the model.
        out: the stage's folder.

    Returns:
        Headline metrics, and the artifact's fields for the manifest.

    Raises:
        GateError: the exported graph answers differently; nothing may be published.
    """
    model, card = load_checkpoint(source)
    path = out / MODEL
    write_graph(model, card, path, opset=options.opset)
    check_structure(path, card, opset=options.opset)
    photos = dataset.of_split("test")
    pixels = pixels_of(dataset.root, photos, card.preprocess)
    reference = Predictions(photos, card.labels, predict_logits(model, pixels))
    _check_training_answers(reference, source, options.parity)
    candidate, invariance, runner = _candidate(out, card, pixels, options.max_batch_size)
    verdict = judge(
        reference,
        candidate,
        options.parity.fp32,
        min_images=options.parity.min_images,
        invariance=invariance,
    )
    parity = {"runner": runner, **verdict.to_dict()}
    write_flips(out / "flips.csv", verdict)
    (out / "parity.json").write_bytes(canonical_json(parity))
    require_pass(verdict, what=f"fp32 {card.arch}")  # after the evidence is written
    say(f"  {describe(verdict)}")
    atol = GOLDEN_ATOL_SD * verdict.sd
    write_reference(out / "reference.csv", reference)
    write_golden(
        out / "golden",
        dataset.root,
        reference,
        pixels,
        count=options.golden_images,
        min_margin=2 * atol,
    )
    return _metrics(verdict, path), _fields(model, card, path, parity, name, atol)


def describe(verdict: Verdict) -> str:
    """The verdict in one line."""
    return (
        f"parity {verdict.status}: {verdict.images - len(verdict.flips)} of {verdict.images} "
        f"answers agree (at least {verdict.agreement_low:.2%}), SNR {verdict.snr_db:.0f} dB, "
        f"largest difference {verdict.max_abs_diff:.1e}"
    )


def _candidate(
    out: Path, card: ModelCard, pixels: NDArray[np.uint8], max_batch_size: int
) -> tuple[NDArray[np.float32], float, dict[str, Any]]:
    """Answers of the runner that will serve: logits, batch invariance, and what it is."""
    unpublished = Artifact(
        root=out,
        name="candidate",
        version="",
        digest="",
        labels=card.labels,
        preprocess=card.preprocess,
        precision="fp32",
        golden_atol=0.0,
        manifest={"files": {MODEL: sha256_of_file(out / MODEL)}},
    )
    with open_runner(unpublished, max_batch_size=max_batch_size) as runner:
        logits = mixed_batch_logits(runner, pixels)
        return logits, batch_invariance(runner, pixels, logits), runner.describe()


def _check_training_answers(reference: Predictions, source: Path, limits: ParityLimits) -> None:
    """The reference must answer as it did when it was evaluated after training.

    Not bit for bit: another machine or number of threads rounds otherwise.
    """
    trained = read_predictions(source / "predictions.csv").of_split("test")
    same_images = [p.sha256 for p in trained.photos] == [p.sha256 for p in reference.photos]
    same = same_images and trained.labels == reference.labels
    if same:
        verdict = judge(trained, reference.logits, limits.fp32, min_images=limits.min_images)
        same = verdict.status != "failed"
    if not same:
        raise GateError(
            f"The checkpoint in {source} no longer answers as its predictions.csv says.",
            "Train again, or restore the folder. Nothing was published.",
        )


def _metrics(verdict: Verdict, path: Path) -> dict[str, float]:
    return {
        "parity_images": verdict.images,
        "parity_flips": len(verdict.flips),
        "parity_snr_db": verdict.snr_db,
        "parity_max_abs_diff": verdict.max_abs_diff,
        "model_bytes": path.stat().st_size,
    }


def _fields(
    model: PhotoClassifier,
    card: ModelCard,
    path: Path,
    parity: dict[str, Any],
    name: str,
    atol: float,
) -> dict[str, Any]:
    opset = next(e.version for e in onnx.load(path).opset_import if e.domain == "")
    size_px = card.preprocess.size_px
    return {
        "name": name,
        "version": sha256_of_file(path)[:12],
        "arch": model.arch,
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
        "precision": "fp32",
        "opset": opset,
        "golden_atol": atol,
        "pillow": PIL.__version__,
        "parity": parity,
    }

"""An imported checkpoint -> ONNX -> verdict -> the files of an artifact, as `export.stage`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import sklearn.datasets
from numpy.typing import NDArray

from export.answers import batch_invariance, mixed_batch_logits
from export.diagnose import Suspects, diagnose, explain
from export.golden import write_golden, write_reference
from export.graph import INPUT, OUTPUT, check_structure, write_graph
from export.identity import machine_identity
from export.judge import Answers, Verdict, judge, require_pass, write_flips
from export.limits import LIMITS
from export.options import ParityLimits
from export.probes import Probes, read_probes
from serve.contract.artifact import MODEL, Artifact
from serve.contract.digest import canonical_json, sha256_of_file
from serve.contract.errors import GateError
from serve.runner import open_runner
from train.checkpoint import ModelCard
from train.evaluate import Predictions, predict_logits
from train.models import PhotoClassifier
from train.progress import say

__all__ = ["ImportOptions", "export_imported", "sample_photos"]

GOLDEN_ATOL_SD = 0.02  # as in `export.stage`


@dataclass(frozen=True)
class ImportOptions:
    """How an imported checkpoint is exported and judged."""

    opset: int = 20
    golden_images: int = 16
    max_batch_size: int = 16
    min_images: int = ParityLimits.min_images
    strict: bool = False  # inconclusive is not enough


def export_imported(
    model: PhotoClassifier, card: ModelCard, photos: Path, options: ImportOptions, out: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Export a model and write an artifact's files, if the answers hold.

    Args:
        model: in evaluation mode, on the CPU.
        card: of the model.
        photos: folder or list of images such as the model was trained for; labels are not needed.
        options: limits are those of fp32.
        out: the folder of the files; it exists.

    Returns:
        Headline metrics, and the artifact's fields for the manifest.

    Raises:
        GateError: the exported graph answers differently, or with `strict` too few images were
            given to say; nothing may be published.
        StillroomError: torch cannot export this architecture.
    """
    probes = read_probes(photos, card.preprocess, card.labels)
    if probes.left_out:
        say(f"  {len(probes.left_out)} images do not decode, first {probes.left_out[0]}")
    path = out / MODEL
    write_graph(model, card, path, opset=options.opset)
    check_structure(path, card, opset=options.opset)
    reference = predict_logits(model, probes.pixels)
    answers = Answers(probes.names, probes.sha256, card.labels, reference, probes.targets)
    verdict, parity, causes = _judge(model, card, answers, probes.pixels, options, out)
    write_flips(out / "flips.csv", verdict)
    (out / "parity.json").write_bytes(canonical_json(parity))
    _require(verdict, causes, options, card)
    atol = GOLDEN_ATOL_SD * verdict.sd
    _write_stored_answers(probes, card, reference, options, atol, out)
    metrics = {
        "parity_images": verdict.images,
        "parity_flips": len(verdict.flips),
        "parity_snr_db": verdict.snr_db,
        "parity_max_abs_diff": verdict.max_abs_diff,
        "model_bytes": path.stat().st_size,
    }
    return metrics, _fields(card, path, parity, options.opset, atol)


def sample_photos() -> Path:
    """The folder of the two photographs that come with scikit-learn."""
    return Path(sklearn.datasets.__file__).parent / "images"


def _judge(
    model: PhotoClassifier,
    card: ModelCard,
    answers: Answers,
    pixels: NDArray[np.uint8],
    options: ImportOptions,
    out: Path,
) -> tuple[Verdict, dict[str, Any], list[str]]:
    """The verdict, parity.json, and of a failure its causes."""
    side, limits, causes = card.preprocess.size_px, LIMITS["fp32"], list[str]()
    blank = np.stack([np.full((side, side, 3), level, np.uint8) for level in (0, 255)])
    with open_runner(_unpublished(card, out), max_batch_size=options.max_batch_size) as runner:
        infer = partial(mixed_batch_logits, runner)
        logits = infer(pixels)
        verdict = judge(
            answers,
            logits,
            limits,
            min_images=options.min_images,
            invariance=batch_invariance(runner, pixels, logits),
            blank=(predict_logits(model, blank), infer(blank)),
        )
        if verdict.status == "failed":
            suspects = Suspects(
                answers,
                logits,
                pixels,
                infer,
                limits,
                model=out / MODEL,
                normalisation=(card.mean, card.std),
            )
            causes = explain(diagnose(suspects))
        facts = runner.describe()
    parity = {
        "runner": facts,
        "limits": asdict(limits),
        "min_images": options.min_images,
        "machine": machine_identity(),
        **verdict.to_dict(),
    }
    return verdict, parity, causes


def _require(verdict: Verdict, causes: list[str], options: ImportOptions, card: ModelCard) -> None:
    require_pass(verdict, what=f"fp32 {card.arch}", causes=causes)
    if verdict.status != "inconclusive":
        return
    why = "; ".join(verdict.reasons)
    if options.strict:
        raise GateError(
            f"PARITY INCONCLUSIVE fp32 {card.arch}: {why}, and --strict was asked for.",
            "Nothing was published. Give a folder of more images with --photos.",
        )
    say(f"  parity inconclusive: {why}. Give a folder of more images with --photos.")


def _write_stored_answers(
    probes: Probes,
    card: ModelCard,
    logits: NDArray[np.float32],
    options: ImportOptions,
    atol: float,
    out: Path,
) -> None:
    reference = Predictions(list(probes.photos), card.labels, logits)
    write_reference(out / "reference.csv", reference)
    try:
        write_golden(
            out / "golden",
            probes.root,
            reference,
            probes.pixels,
            count=options.golden_images,
            min_margin=2 * atol,
        )
    except GateError as error:
        raise GateError(
            error.message, "Name photographs of the model's own classes with --photos."
        ) from error


def _unpublished(card: ModelCard, out: Path) -> Artifact:
    return Artifact(
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


def _fields(
    card: ModelCard, path: Path, parity: dict[str, Any], opset: int, atol: float
) -> dict[str, Any]:
    side = card.preprocess.size_px
    return {
        "name": card.arch,
        "version": sha256_of_file(path)[:12],
        "arch": card.arch,
        "labels": list(card.labels),
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "layout": "NHWC",
            "shape": [None, side, side, 3],
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": [None, len(card.labels)]},
        "preprocess": card.preprocess.to_dict(),
        "preprocess_digest": card.preprocess.digest,
        "normalisation": {"mean": list(card.mean), "std": list(card.std)},
        "precision": "fp32",
        "opset": opset,  # check_structure read it back
        "golden_atol": atol,
        "pillow": PIL.__version__,
        "parity": parity,
    }

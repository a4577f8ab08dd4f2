"""`stillroom export --checkpoint`: a timm checkpoint that was not trained here, as an artifact."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from export.foreign.label_file import read_labels
from export.foreign.preprocess_choice import PreprocessChoice
from export.foreign.stage import export_imported, sample_images
from export.foreign.timm_checkpoint import PACKAGE, load_imported
from export.options import ExportOptions, deciding_export
from serve.contract.digest import digest_of_json, sha256_of_file
from serve.contract.errors import ArtifactError, GateError, UsageError
from serve.contract.labels import look_alikes
from serve.contract.manifest import read_manifest
from stillroom.command_text import command_text
from stillroom.run.folder import RunFolder
from stillroom.run.stage_graph import runtime, versions
from train.engine.progress import say

__all__ = ["ImportRequest", "import_checkpoint"]

STAGE = "imported checkpoint"


@dataclass(frozen=True)
class ImportRequest:
    """What the user asked for.

    Args:
        checkpoint: path of a file, or "package".
        arch: timm name.
        labels: file of class names, one a line.
        photos: what parity is judged on; None takes two images of scikit-learn.
        out: the artifact's folder; None is artifacts/<arch>.
        choice: preprocessing that timm's data config does not say rightly.
        strict: publish nothing where too few images were given to say.
        weights_key: of the weights in the file, where several fit.
    """

    checkpoint: str
    arch: str
    labels: Path
    photos: Path | None = None
    out: Path | None = None
    choice: PreprocessChoice = field(default_factory=PreprocessChoice)
    strict: bool = False
    weights_key: str = ""


def import_checkpoint(request: ImportRequest) -> Path:
    """Export, judge and publish; print what was taken and where it is.

    Returns:
        The artifact's folder.

    Raises:
        UsageError: labels, checkpoint, model or output folder do not do; nothing was written.
        GateError: the verdict is no; nothing was published.
    """
    out = request.out or Path("artifacts") / request.arch
    _refuse_foreign(out)
    labels = read_labels(request.labels)
    for sentence in look_alikes(labels):
        say(f"{request.labels}: {sentence}")
    model, card = load_imported(
        request.checkpoint, request.arch, labels, request.choice, weights_key=request.weights_key
    )
    spec = card.preprocess
    say(
        f"{request.arch}: {spec.size_px} px, crop {spec.crop_pct:g}, {spec.interpolation}, mean "
        f"{_numbers(card.mean)}, std {_numbers(card.std)}, {len(labels)} classes"
    )
    photos = request.photos or sample_images()
    lineage = {"stage": STAGE, "digest": _digest(request)}
    options = ExportOptions(strict=request.strict)
    recorded = {
        "checkpoint": lineage["digest"],
        "model": request.arch,
        "preprocess": spec.to_dict(),
        "mean": list(card.mean),
        "std": list(card.std),
        **deciding_export(options),
        **({"weights_key": request.weights_key} if request.weights_key else {}),
    }
    key = digest_of_json({"stage": STAGE, "options": recorded, "labels": list(labels)})
    folder = RunFolder(out.parent)
    start = time.perf_counter()
    work = folder.open_work(out.name, key, resumable=False)
    try:
        metrics, fields = export_imported(model, card, photos, options, work)
    except GateError as error:
        kept = folder.keep_failed(out.name)
        raise GateError(error.message, f"{error.next_step} Evidence: {kept}".strip()) from error
    except BaseException:  # nothing half-made stays beside what the user named
        shutil.rmtree(work)
        raise
    manifest = {
        "kind": "artifact",
        "key": key,
        "parents": {},
        "lineage": [lineage],
        "options": recorded,
        "versions": versions(),
        "metrics": metrics,
        **fields,
    }
    folder.publish(out.name, manifest, runtime(time.perf_counter() - start))
    say(f"{out}: parity {fields['parity']['status']}. Serve it: {command_text('serve', out)}")
    return out


def _refuse_foreign(out: Path) -> None:
    """Only what an earlier import wrote is replaced."""
    if not out.exists():
        return
    try:
        lineage = read_manifest(out, kind="artifact").get("lineage")
    except (ArtifactError, NotADirectoryError):
        lineage = None
    if not lineage or lineage[0].get("stage") != STAGE:
        raise UsageError(
            f"--out {out} exists and is not an artifact of an imported checkpoint.",
            "Name a folder that does not exist yet.",
        )


def _digest(request: ImportRequest) -> str:
    if request.checkpoint != PACKAGE:
        return sha256_of_file(Path(request.checkpoint))
    from train.models.weights.source import package_file

    return sha256_of_file(package_file(request.arch.split(".")[0]))


def _numbers(values: tuple[float, float, float]) -> str:
    return ",".join(f"{value:g}" for value in values)

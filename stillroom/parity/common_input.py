"""What two ONNX files see and answer: pixels and class names that both go with."""

from __future__ import annotations

from pathlib import Path

from export.foreign.onnx_file import OnnxClassifier
from export.foreign.preprocess_choice import PreprocessChoice, build_spec
from serve.contract.artifact import MODEL, Artifact, open_artifact
from serve.contract.errors import UsageError
from serve.contract.manifest import MANIFEST
from serve.contract.preprocess import PreprocessSpec

__all__ = ["common_labels", "common_spec"]


def common_spec(
    first: OnnxClassifier, second: OnnxClassifier, choice: PreprocessChoice
) -> PreprocessSpec:
    """Size, crop and filter: of the artifact that a file lies in, of its fixed size, or as chosen.

    Raises:
        UsageError: the files take different sizes, or nobody says size or crop: it names them.
        ArtifactError: a file lies in a damaged artifact.
    """
    sizes = {size for file in (first, second) if (size := file.layout.size_px) is not None}
    if len(sizes) > 1:
        raise UsageError(
            f"The files take images of {' and '.join(f'{size} px' for size in sorted(sizes))}: "
            "no image looks the same to both.",
            "Name two exports for one size.",
        )
    size_px = next(iter(sizes), None)
    if size_px is not None and choice.size_px not in (None, size_px):
        raise UsageError(f"--size {choice.size_px}: the files take {size_px} px.", "Leave it out.")
    own = _spec_of_artifacts(first, second, choice)
    known = PreprocessChoice(size_px)
    if own is not None:
        of_artifact = PreprocessChoice(own.size_px, own.crop_pct, own.interpolation)
        known = known.over(of_artifact)
    return build_spec(choice.over(known))


def common_labels(first: OnnxClassifier, second: OnnxClassifier) -> tuple[str, ...]:
    """Class names, where a file or its artifact says them; empty else.

    Raises:
        UsageError: the files name different ones.
    """
    known = {labels for file in (first, second) if (labels := _labels_of(file))}
    if len(known) > 1:
        raise UsageError(
            "The files name different classes, or the same ones in another order.",
            "Name two exports of one set of classes; or say the names with --labels.",
        )
    return known.pop() if known else ()


def _labels_of(file: OnnxClassifier) -> tuple[str, ...]:
    artifact = _artifact_of(file.path)
    return artifact.labels if artifact else file.labels


def _spec_of_artifacts(
    first: OnnxClassifier, second: OnnxClassifier, choice: PreprocessChoice
) -> PreprocessSpec | None:
    found = [_artifact_of(file.path) for file in (first, second)]
    specs = {artifact.preprocess for artifact in found if artifact is not None}
    if len(specs) > 1 and None in (choice.crop_pct, choice.interpolation):
        raise UsageError(
            "The files are of artifacts with different preprocessing.",
            "Say which both shall see: --crop-pct and --interpolation.",
        )
    return specs.pop() if specs else None


def _artifact_of(path: Path) -> Artifact | None:
    """The artifact that a file belongs to, whose manifest knows the preprocessing."""
    if path.name != MODEL or not (path.parent / MANIFEST).exists():
        return None
    return open_artifact(path.parent)

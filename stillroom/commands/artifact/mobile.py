"""`stillroom export --mobile`: every published precision in ONNX Runtime's format for devices."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.mobile import check_ort, download_size, write_ort
from serve.contract.artifact import MODEL, Artifact, open_artifact
from serve.contract.manifest import MANIFEST
from serve.contract.preprocess import NO_LIMITS, preprocess
from serve.model.golden_check import load_golden

__all__ = ["FOLDER", "artifacts_of", "golden_pixels", "write_mobile"]

FOLDER = "mobile"  # beside the stages: such files differ in bytes from build to build
FOR_TENSORRT = "artifact-int8-tensorrt"


def write_mobile(target: Path) -> None:
    """Write mobile/<precision>.ort for each artifact of a run; print sizes and differences.

    Args:
        target: a run folder with artifacts, or one artifact.

    Raises:
        ArtifactError: there is no artifact, or it is damaged.
        GateError: a converted file answers otherwise than the one it was made of; it is removed.
    """
    for folder in artifacts_of(target):
        if folder.name == FOR_TENSORRT:
            continue
        artifact = open_artifact(folder)
        path = target / FOLDER / f"{artifact.precision}.ort"
        path.parent.mkdir(exist_ok=True)
        source = artifact.root / MODEL
        with tempfile.TemporaryDirectory(dir=path.parent) as draft:
            made = Path(draft) / path.name
            write_ort(source, made)
            worst = check_ort(source, made, golden_pixels(artifact))
            made.replace(path)
        size = download_size(path)
        sys.stdout.write(
            f"{path}: {size.bytes / 1e6:.2f} MB, {size.gzip_bytes / 1e6:.2f} MB compressed; "
            f"logits within {worst:.1e} of {os.path.relpath(source, target)}\n"
        )


def artifacts_of(target: Path) -> Iterator[Path]:
    """Folders of the published artifacts, fp32 first; `target` itself where it is no run."""
    if (target / MODEL).is_file() or not (target / "artifact").is_dir():
        yield target  # where there is none, opening it says what to do
        return
    for folder in sorted(target.glob("artifact*")):
        if (folder / MANIFEST).is_file():
            yield folder


def golden_pixels(artifact: Artifact) -> NDArray[np.uint8]:
    """(N, size_px, size_px, 3) of the golden images."""
    golden = load_golden(artifact)
    return np.stack(
        [preprocess(one.path.read_bytes(), artifact.preprocess, NO_LIMITS) for one in golden]
    )

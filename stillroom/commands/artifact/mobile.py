"""`stillroom export --mobile`: every published precision in ONNX Runtime's format for devices."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from export.mobile import check_ort, download_size, write_ort
from serve.contract.artifact import MODEL, open_artifact
from stillroom.console import show
from stillroom.run.artifacts import artifacts_of, golden_pixels

__all__ = ["FOLDER", "write_mobile"]

FOLDER = "mobile"  # beside the stages: such files differ in bytes from build to build
FOR_TENSORRT = "artifact-int8-tensorrt"


def write_mobile(target: Path) -> None:
    """Write mobile/<precision>.ort for each artifact of a run; print sizes and differences.

    Args:
        target: a run folder with artifacts, or one artifact.

    Raises:
        ArtifactError: no artifact, or it is damaged.
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
        show(
            f"{path}: {size.bytes / 1e6:.2f} MB, {size.gzip_bytes / 1e6:.2f} MB compressed; "
            f"logits within {worst:.1e} of {os.path.relpath(source, target)}"
        )

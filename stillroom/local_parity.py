"""`stillroom parity`: an artifact's answers here against its stored reference, without torch."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.contract.artifact import Artifact, open_artifact
from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import GateError, UsageError
from serve.contract.preprocess import preprocess
from stillroom.local_runner import open_local_runner
from train.list_rows import read_rows

__all__ = ["check_local_parity"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def check_local_parity(target: Path, photos: Path | None) -> None:
    """Answer every image that has a stored reference answer and compare; print the verdict.

    Args:
        target: an artifact, or a run folder with one.
        photos: a folder searched for images with a stored reference, or a list of them; None takes
            the golden images.

    Raises:
        UsageError: no such folder, or no image in `photos` has a stored reference answer.
        GateError: an answer differs.
    """
    artifact = open_artifact(target)
    folder = artifact.root / "golden" if photos is None else photos
    paths = _images_of(folder)
    reference = _stored_reference(artifact)
    flips, worst, count = [], 0.0, 0
    with open_local_runner(artifact) as runner:
        for path in paths:
            data = path.read_bytes()
            expected = reference.get(sha256_of_bytes(data))
            if expected is None:
                continue
            logits = runner.infer(preprocess(data, artifact.preprocess)[None])[0]
            count += 1
            worst = max(worst, float(np.abs(logits - expected).max()))
            if int(logits.argmax()) != int(expected.argmax()):
                before, after = (artifact.labels[int(x.argmax())] for x in (expected, logits))
                flips.append(f"{path.name} {before!r} -> {after!r}")
        backend = runner.backend
    if not count:
        raise UsageError(
            f"No image in {folder} has a reference answer in {artifact.root}.",
            "Give the folder of photographs that the run was made of.",
        )
    line = (
        f"{count - len(flips)} of {count} answers on {backend} are the stored ones, largest "
        f"logit difference {worst:.1e} (allowed {artifact.golden_atol:.1e})"
    )
    if flips or not worst <= artifact.golden_atol:
        detail = f" Flips: {'; '.join(flips[:3])}." if flips else ""
        raise GateError(f"PARITY FAIL {line}.{detail}", "Export the artifact on this machine.")
    sys.stdout.write(f"parity passed: {line}\n")


def _images_of(photos: Path) -> list[Path]:
    if photos.is_file():
        return [photos.resolve().parent / row.path for row in read_rows(photos)]
    if not photos.is_dir():
        raise UsageError(f"No such folder: {photos}.", "Name a folder of images with --photos.")
    return sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES)


def _stored_reference(artifact: Artifact) -> dict[str, NDArray[np.float32]]:
    with (artifact.root / "reference.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        next(reader)
        return {row[0]: np.array(row[1:], dtype=np.float32) for row in reader}

"""The reference logits that an artifact keeps: reference.csv."""

from __future__ import annotations

import csv

import numpy as np
from numpy.typing import NDArray

from serve.contract.artifact import Artifact

__all__ = ["stored_reference"]


def stored_reference(artifact: Artifact) -> dict[str, NDArray[np.float32]]:
    """(K,) logits of the reference model by sha256 of the image's bytes."""
    with (artifact.root / "reference.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        next(reader)
        return {row[0]: np.array(row[1:], dtype=np.float32) for row in reader}

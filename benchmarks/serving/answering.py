"""Bytes -> top-5 as JSON, with the product's own parts: what every service here does for a request.

The same `preprocess`, session options and softmax on all sides: what is left to compare is the
server around them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from serve.contract.artifact import open_artifact
from serve.contract.preprocess import crop_and_resize, preprocess
from serve.model.predictions import top_predictions
from serve.runners.onnxruntime_runner import session_options

__all__ = ["TOP_K", "Answering", "artifact_of_this_process"]

TOP_K = 5


class Answering:
    """One session on one CPU thread.

    Args:
        folder: of the artifact.
    """

    def __init__(self, folder: Path) -> None:
        artifact = open_artifact(folder)
        self._spec = artifact.preprocess
        self._labels = artifact.labels
        self._session = onnxruntime.InferenceSession(
            artifact.model_path.read_bytes(),
            session_options(1),
            providers=["CPUExecutionProvider"],
        )

    def pixels_of(self, data: bytes) -> NDArray[np.uint8]:
        """(size_px, size_px, 3) uint8 of the bytes of an image file."""
        return preprocess(data, self._spec)

    def pixels_of_image(self, image: Image.Image) -> NDArray[np.uint8]:
        """The same, of an image that a framework has opened."""
        return np.asarray(crop_and_resize(image.convert("RGB"), self._spec))

    def logits_of(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, K) float32 of (N, size_px, size_px, 3) uint8."""
        logits: NDArray[np.float32] = self._session.run(None, {"image": pixels})[0]
        return logits

    def top_of(self, logits: NDArray[np.float32]) -> list[dict[str, Any]]:
        """Label and probability, best first, of (K,) logits."""
        return list(top_predictions(logits, self._labels, TOP_K))  # type: ignore[arg-type]

    def answer(self, data: bytes) -> list[dict[str, Any]]:
        """Bytes of an image file -> label and probability, best first."""
        return self.top_of(self.logits_of(self.pixels_of(data)[None])[0])

    def answer_json(self, data: bytes) -> bytes:
        """The same, as it goes over the wire."""
        return json.dumps({"predictions": self.answer(data)}).encode()


def artifact_of_this_process() -> Path:
    """The folder that the environment names for a service."""
    return Path(os.environ["STILLROOM_ARTIFACT"])

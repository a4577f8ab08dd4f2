"""A BentoML service as its documentation writes one: an image in, a list of labels out."""

from __future__ import annotations

from typing import Any

import bentoml
from PIL.Image import Image

from benchmarks.serving.answering import Answering, artifact_of_this_process


@bentoml.service
class Documented:
    """Classifies one image per request."""

    def __init__(self) -> None:
        self._answering = Answering(artifact_of_this_process())

    @bentoml.api
    def classify(self, image: Image) -> list[dict[str, Any]]:
        """Label and probability, best first."""
        pixels = self._answering.pixels_of_image(image)
        return self._answering.top_of(self._answering.logits_of(pixels[None])[0])

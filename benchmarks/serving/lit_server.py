"""LitServe as its documentation writes a classifier: decode, predict, encode.

python -m benchmarks.serving.lit_server PORT MAX_BATCH
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.answering import Answering, artifact_of_this_process


class Classifier(litserve.LitAPI):
    """Classifies the multipart field "image"."""

    def setup(self, device: str) -> None:
        """Once in the worker."""
        self._answering = Answering(artifact_of_this_process())

    def decode_request(self, request):  # an annotation would change what it parses
        """The pixels of one image."""
        return self._answering.pixels_of(request["image"].file.read())

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits of one image, or of a batch where the server makes batches."""
        if pixels.ndim == 4:
            return self._answering.logits_of(pixels)
        return self._answering.logits_of(pixels[None])[0]

    def encode_response(self, logits: NDArray[np.float32]) -> dict[str, Any]:
        """Label and probability, best first."""
        return {"predictions": self._answering.top_of(logits)}


if __name__ == "__main__":
    port, size = map(int, sys.argv[1:])
    batching = {"max_batch_size": size, "batch_timeout": 0.005} if size > 1 else {}
    server = litserve.LitServer(Classifier(**batching), accelerator="cpu", devices=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, access_log=False)

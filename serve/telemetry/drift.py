"""Drift: what comes in and what is predicted, beside what the artifact's own images gave.

Histograms of size, brightness and confidence and a count of predictions by label, in Prometheus;
the same confidence and labels of the stored reference predictions stand beside them as constants,
so that one query compares the two (docs/observability.md). Observing costs some 0.02 ms a request,
in the threads that decode and infer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serve.contract.artifact import Artifact
from serve.contract.reference import stored_reference
from serve.http.exchange import fault_line

__all__ = ["Drift"]

logger = logging.getLogger(__name__)
BYTES = tuple(2**power for power in range(12, 25))
SIDES = tuple(2**power for power in range(5, 15))
TENTHS = tuple(round(0.1 * number, 1) for number in range(1, 10))
CONFIDENCES = (*TENTHS, 0.95, 0.99, 1.0)
MOST_LABELS = 200  # of a larger model labels are not counted: each is a time series
PIXEL_STEP = 8  # brightness is the mean of every eighth pixel of every eighth row


class Drift:
    """The metrics; one instance per registry.

    Args:
        registry: where they are served from.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bytes = Histogram(
            "stillroom_image_bytes", "Size of image files", buckets=BYTES, registry=registry
        )
        self._side = Histogram(
            "stillroom_image_shorter_side_pixels",
            "Shorter side of images, upright",
            buckets=SIDES,
            registry=registry,
        )
        self._brightness = Histogram(
            "stillroom_image_brightness_ratio",
            "Mean of what the model sees, 0 black to 1 white",
            buckets=TENTHS,
            registry=registry,
        )
        self._confidence = Histogram(
            "stillroom_answer_confidence_ratio",
            "Probability of the best label",
            buckets=CONFIDENCES,
            registry=registry,
        )
        self._labels = Counter(
            "stillroom_answers", "Predictions by best label", ["label"], registry=registry
        )
        self._expected_confidence = Gauge(
            "stillroom_expected_confidence_ratio",
            "Share of the reference predictions with at most this confidence",
            ["le"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._expected_labels = Gauge(
            "stillroom_expected_answers_ratio",
            "Share of the reference predictions with this best label",
            ["label"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._expected: set[str] = set()

    def observe_image(
        self, size_bytes: int, size_px: tuple[int, int], pixels: NDArray[np.uint8]
    ) -> None:
        """Count one image.

        Args:
            size_bytes: of its file.
            size_px: its width and height.
            pixels: (S, S, 3), as the model sees it.
        """
        self._bytes.observe(size_bytes)
        self._side.observe(min(size_px))
        self._brightness.observe(float(pixels[::PIXEL_STEP, ::PIXEL_STEP].mean()) / 255)

    def observe_logits(self, logits: NDArray[np.floating], labels: Sequence[str]) -> None:
        """Count the predictions of a batch; rows that are not finite are none.

        Args:
            logits: (N, K).
            labels: K names.
        """
        for index, confidence in zip(*_best_of(logits), strict=True):
            self._confidence.observe(float(confidence))
            if len(labels) <= MOST_LABELS:
                self._labels.labels(labels[int(index)]).inc()

    def expect(self, artifact: Artifact) -> threading.Thread:
        """Set the constants to an artifact's reference predictions, in a thread."""
        thread = threading.Thread(target=self._expect, args=(artifact,), daemon=True)
        thread.start()
        return thread

    def _expect(self, artifact: Artifact) -> None:
        try:
            stored = stored_reference(artifact)
        except (OSError, ValueError) as error:
            # it serves without: the file's digest was verified, so it was written so
            logger.warning(f"no drift baseline: {fault_line(error)}")
            return
        logits = np.stack(list(stored.values())) if stored else np.empty((0, len(artifact.labels)))
        best, confidence = _best_of(logits)
        n = max(len(best), 1)
        for le in CONFIDENCES:
            share = float((confidence <= le).sum()) / n
            self._expected_confidence.labels(f"{le:g}").set(share)
        if len(artifact.labels) > MOST_LABELS:
            return
        for label in self._expected - set(artifact.labels):
            self._expected_labels.labels(label).set(0)
        counts = np.bincount(best, minlength=len(artifact.labels))
        for label, count in zip(artifact.labels, counts, strict=True):
            self._expected_labels.labels(label).set(count / n)
        self._expected |= set(artifact.labels)


def _best_of(logits: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(n,) best index and its probability, of the finite rows."""
    finite = logits[np.isfinite(logits).all(axis=1)].astype(np.float64)
    if not len(finite):
        return np.empty(0, dtype=np.int64), np.empty(0)
    best = finite.argmax(axis=1)
    shifted = np.exp(finite - finite.max(axis=1, keepdims=True))
    return best, 1 / shifted.sum(axis=1)

"""`stillroom.load`: an artifact as a Python object that predicts. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from os import PathLike
from pathlib import Path
from threading import Lock
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from serve.contract.artifact import Artifact, open_artifact
from serve.contract.preprocess import (
    NO_LIMITS,
    PreprocessSpec,
    crop_and_resize,
    preprocess,
    rgb_from,
)
from serve.model.predictions import top_predictions
from serve.runners.base import Runner
from stillroom.library.rows import ImagePrediction
from stillroom.run.artifacts import open_local_runner

__all__ = ["Model", "load"]

ImageLike = str | PathLike[str] | bytes | Image.Image | NDArray[np.uint8]


def load(run_or_artifact: str | PathLike[str]) -> Model:
    """Open the artifact of a run for predictions in this process.

    It runs on the backend that a service here would take; the STILLROOM_BACKEND, _THREADS and
    _MAX_BATCH variables hold. Close it, or use it in a `with` block, to free its memory at once.

    Args:
        run_or_artifact: a run folder that holds an artifact, or an artifact folder.

    Raises:
        ArtifactError: no artifact, or it is damaged.
        UsageError: a STILLROOM_* variable is wrong, or the backend does not work here.
    """
    artifact = open_artifact(Path(run_or_artifact))
    return Model(artifact, open_local_runner(artifact))


class Model:
    """A verified artifact and the runner that computes it. Made by `load`.

    Any thread may predict; one batch is computed at a time.

    Attributes:
        artifact: its labels, preprocess spec, digest and manifest.
    """

    def __init__(self, artifact: Artifact, runner: Runner) -> None:
        self.artifact = artifact
        self._runner, self._lock = runner, Lock()

    @property
    def labels(self) -> tuple[str, ...]:
        """The K class names in the order of the logits."""
        return self.artifact.labels

    @property
    def backend(self) -> str:
        """What computes: onnxruntime-cpu, onnxruntime-cuda or one of tensorrt-*."""
        return self._runner.backend

    def predict(self, image: ImageLike, *, top_k: int | None = None) -> ImagePrediction:
        """Classify one image.

        Args:
            image: path of a file, a file's bytes, a PIL image, or uint8 (H, W, 3) RGB.
            top_k: how many labels to return; None returns all.

        Raises:
            ImageError: the file is not an acceptable image; the subclass says why.
            OSError: the file cannot be read.
            ValueError: the array has another dtype or shape, or top_k is below 1.
        """
        return self.predict_batch([image], top_k=top_k)[0]

    def predict_batch(
        self, images: Iterable[ImageLike], *, top_k: int | None = None
    ) -> list[ImagePrediction]:
        """Classify images in batches of the runner's size; as many are decoded at a time.

        Args:
            images: each as `predict` takes it.
            top_k: how many labels to return; None returns all.

        Raises:
            ImageError: as `predict`, for the first image that is not acceptable.
            OSError: as `predict`.
            ValueError: as `predict`.
        """
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k = {top_k}: expected 1 or more.")
        kept = min(top_k or len(self.labels), len(self.labels))
        return [
            ImagePrediction.of(name, top_predictions(row, self.labels, kept))
            for names, logits in self._batches(iter(images))
            for name, row in zip(names, logits, strict=True)
        ]

    def close(self) -> None:
        """Free the runner; the model cannot predict any more."""
        self._runner.__exit__(None, None, None)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name, version = self.artifact.name, self.artifact.version
        return f"<Model {name} {version}, {len(self.labels)} labels, on {self.backend}>"

    def _batches(
        self, images: Iterator[ImageLike]
    ) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Names and logits (N, K) of so many images as the runner takes at a time."""
        while batch := list(islice(images, self._runner.max_batch_size)):
            pixels = np.stack([pixels_of(image, self.artifact.preprocess) for image in batch])
            with self._lock:
                logits = self._runner.infer(pixels)
            yield [_name_of(image) for image in batch], logits


def pixels_of(image: ImageLike, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """What the model sees of an image: (size_px, size_px, 3) uint8 RGB.

    Raises:
        ImageError: a file's bytes are not an acceptable image.
        ValueError: an array is not uint8 (H, W, 3).
    """
    if isinstance(image, bytes):
        return preprocess(image, spec, NO_LIMITS)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"image is {image.dtype} {image.shape}; expected uint8 (H, W, 3).")
        return np.asarray(crop_and_resize(Image.fromarray(image), spec))
    if isinstance(image, Image.Image):
        upright = rgb_from(ImageOps.exif_transpose(image), spec.background)
        return np.asarray(crop_and_resize(upright, spec))
    return preprocess(Path(image).read_bytes(), spec, NO_LIMITS)


def _name_of(image: ImageLike) -> str:
    return str(image) if isinstance(image, str | PathLike) else ""

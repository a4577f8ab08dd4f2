"""Class activation maps over thumbnails: warm where the evidence for an answer lies."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError, ImageError, StillroomError
from serve.contract.preprocess import NO_LIMITS, PreprocessSpec, preprocess
from train.data.image_bytes import read_bytes
from train.data.images import LabelledImage
from train.grad_cam import class_maps, find_cam_layer
from train.models.checkpoint import load_checkpoint

__all__ = ["Overlays", "draw_overlays", "overlay"]

QUALITY = 72
STRENGTH = 0.6  # of the warmest place; cold places keep the image's colours
BATCH = 64


class Overlays:
    """Overlays by image and class.

    Args:
        uris: data: URIs by (path, class).
        layer: the layer that the maps are read from; empty where there are none.
        problem: why there are none, in words; empty where there are.
    """

    def __init__(self, uris: dict[tuple[str, str], str], layer: str, problem: str = "") -> None:
        self._uris, self.layer, self.problem = uris, layer, problem

    def of(self, photo: LabelledImage, label: str) -> str | None:
        """The overlay of the evidence for one class; None where there is none."""
        return self._uris.get((photo.path, label))


def draw_overlays(
    checkpoint: Path | None,
    root: Path | None,
    wanted: Iterable[tuple[LabelledImage, str]],
    labels: tuple[str, ...],
    *,
    side_px: int,
) -> Overlays:
    """Draw the maps of a model over its images, seen through the serving preprocess.

    Args:
        checkpoint: folder of the model; None for none.
        root: the dataset's folder; None for none.
        wanted: images and the classes whose evidence is shown.
        labels: that the predictions have; the checkpoint must have the same.
        side_px: of an overlay.

    Returns:
        Overlays of those images that are still the ones measured. A model without a suitable
        layer has none, and `problem` says so.
    """
    if checkpoint is None or root is None:
        return Overlays({}, "", "no checkpoint" if checkpoint is None else "no images")
    try:
        model, card = load_checkpoint(checkpoint)
        if card.labels != labels:
            return Overlays({}, "", "the checkpoint is of other classes")
        layer = find_cam_layer(model, card.preprocess.size_px)
    except StillroomError as error:
        return Overlays({}, "", error.message)
    pairs = list(dict.fromkeys((photo, label) for photo, label in wanted))
    uris: dict[tuple[str, str], str] = {}
    for start in range(0, len(pairs), BATCH):
        found = [
            (photo, label, pixels)
            for photo, label in pairs[start : start + BATCH]
            if (pixels := _pixels(root, photo, card.preprocess)) is not None
        ]
        if not found:
            continue
        pixels = np.stack([one[2] for one in found])
        classes = np.array([labels.index(one[1]) for one in found])
        maps = class_maps(model, layer, pixels, classes)
        for (photo, label, image), heat in zip(found, maps, strict=True):
            uris[photo.path, label] = _uri(overlay(image, heat, side_px))
    return Overlays(uris, layer.name.removeprefix("backbone."))


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.float32], side_px: int) -> Image.Image:
    """Blend a map over its picture.

    Args:
        pixels: (H, W, 3).
        heat: (H, W) in [0, 1]: where 0 the image is left as it is.
        side_px: of the result.
    """
    size = (side_px, side_px)
    photo = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC), np.float32)
    map_ = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    warm = np.asarray(map_).clip(0, 1)
    colour = 255 * mpl.colormaps["turbo"](warm)[..., :3]
    share = STRENGTH * warm[..., None]
    return Image.fromarray((photo * (1 - share) + colour * share).round().astype(np.uint8))


def _pixels(root: Path, photo: LabelledImage, spec: PreprocessSpec) -> NDArray[np.uint8] | None:
    try:
        data = read_bytes(root / photo.path)
        if sha256_of_bytes(data) != photo.sha256:
            return None
        return preprocess(data, spec, NO_LIMITS)
    except (OSError, DatasetError, ImageError):
        return None


def _uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

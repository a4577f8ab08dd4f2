"""Class activation maps: which part of an image an answer comes from.

The layer is found by structure, for any timm model: the last feature map whose positions still
reach the logits. Convolutional networks and hierarchical transformers have one; in a plain vision
transformer it is the last layer before attention hands everything to the class token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serve.contract.errors import UsageError
from train.models.classifier import ImageClassifier

__all__ = ["CamLayer", "class_maps", "find_cam_layer"]

Layout = Literal["NCHW", "NHWC", "tokens"]
BATCH = 16


@dataclass(frozen=True)
class CamLayer:
    """Where the maps are read.

    Args:
        name: of the module, as `named_modules` says it.
        module: whose output is the feature map.
        layout: of the output: (N, C, h, w), (N, h, w, C), or (N, prefix + h * w, C).
        grid: h and w.
        prefix: tokens before those of the grid, such as the class token.
    """

    name: str
    module: nn.Module
    layout: Layout
    grid: tuple[int, int]
    prefix: int = 0

    def planes(self, output: Tensor) -> Tensor:
        """The output, or its gradient, as (N, C, h, w)."""
        if self.layout == "NCHW":
            return output
        if self.layout == "NHWC":
            return output.permute(0, 3, 1, 2)
        tokens = output[:, self.prefix :]
        return tokens.reshape(len(tokens), *self.grid, -1).permute(0, 3, 1, 2)


def find_cam_layer(model: ImageClassifier, size_px: int) -> CamLayer:
    """The last layer with a spatial map that the logits depend on.

    Args:
        model: in evaluation mode.
        size_px: side of the images that it takes.

    Raises:
        UsageError: the model has no such layer; the message says what was found.
    """
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1, size_px, size_px, 3), generator=random).to(model.device)
    with torch.no_grad():
        shape = _feature_shape(model, pixels)
    outputs = _trace(model, pixels)
    # A map of one position shows nothing: then the last one that has more.
    wanted = shape if shape and _positions(shape) > 1 else None
    found = [one for one in outputs if _fits(one[2], wanted)]
    gradients: tuple[Tensor | None, ...] = ()
    if found:
        answer = outputs[-1][2].float().flatten()[0]
        gradients = torch.autograd.grad(answer, [one[2] for one in found], allow_unused=True)
    for (name, module, output), gradient in reversed(list(zip(found, gradients, strict=True))):
        layer = _as_layer(name, module, output, model.backbone)
        if layer and gradient is not None and layer.planes(gradient).abs().sum() > 0:
            return layer
    raise UsageError(
        f"{model.arch} has no feature map with positions that reach its answer at {size_px} px.",
        "Class activation maps need a convolutional network or a vision transformer.",
    )


def class_maps(
    model: ImageClassifier, layer: CamLayer, pixels: NDArray[np.uint8], classes: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Grad-CAM of one class for each image.

    Args:
        model: in evaluation mode.
        layer: of `find_cam_layer`.
        pixels: (N, H, W, 3) uint8, of the serving preprocess.
        classes: (N,) whose evidence is shown.

    Returns:
        (N, H, W) float32 in [0, 1]; each map's largest value is 1, or 0 where nothing speaks for
        the class.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    # They bring OpenCV, which only the one who draws maps should load.
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam: Any = GradCAM(
        model=_ChannelsFirst(model), target_layers=[layer.module], reshape_transform=layer.planes
    )
    maps = [np.zeros((0, *pixels.shape[1:3]), np.float32)]
    try:
        for start in range(0, len(pixels), BATCH):
            part = slice(start, start + BATCH)
            images = torch.from_numpy(pixels[part]).permute(0, 3, 1, 2).float()
            targets = [ClassifierOutputTarget(int(k)) for k in classes[part]]
            maps.append(np.asarray(cam(input_tensor=images, targets=targets), np.float32))
    finally:
        cam.activations_and_grads.release()
        model.zero_grad(set_to_none=True)
    return np.concatenate(maps)


class _ChannelsFirst(nn.Module):
    """grad-cam reads the size of the picture off an (N, C, H, W) input."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.permute(0, 2, 3, 1))
        return logits


def _feature_shape(model: ImageClassifier, pixels: Tensor) -> tuple[int, ...] | None:
    """Shape of what timm's `forward_features` returns; None for another kind of network."""
    forward_features = getattr(model.backbone, "forward_features", None)
    if forward_features is None:
        return None
    planes = pixels.float().permute(0, 3, 1, 2) * model.scale + model.shift
    features = forward_features(planes)
    return tuple(features.shape) if isinstance(features, Tensor) else None


def _trace(model: nn.Module, pixels: Tensor) -> list[tuple[str, nn.Module, Tensor]]:
    """Name, module and output of every call, in the order in which they returned."""
    calls: list[tuple[str, nn.Module, Tensor]] = []

    def watch(name: str, module: nn.Module) -> Any:
        def note(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                calls.append((name, module, output))

        return module.register_forward_hook(note)

    handles = [watch(name, module) for name, module in model.named_modules()]
    try:
        with torch.enable_grad():
            model(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _fits(output: Tensor, wanted: tuple[int, ...] | None) -> bool:
    if wanted is not None:
        return tuple(output.shape) == wanted
    return output.ndim == 4 and _positions(tuple(output.shape)) > 1


def _positions(shape: tuple[int, ...]) -> int:
    """Lower bound of the places in a map: the channels are not known here, so the least two."""
    if len(shape) == 4:
        return min(shape[2] * shape[3], shape[1] * shape[2])
    return shape[1] if len(shape) == 3 else 1


def _as_layer(name: str, module: nn.Module, output: Tensor, backbone: nn.Module) -> CamLayer | None:
    channels = getattr(backbone, "num_features", None)
    if output.ndim == 4:
        last = output.shape[3] == channels and output.shape[1] != channels
        height, width = output.shape[1:3] if last else output.shape[2:4]
        return CamLayer(name, module, "NHWC" if last else "NCHW", (height, width))
    if output.ndim != 3:
        return None
    prefix = int(getattr(backbone, "num_prefix_tokens", 0))
    side = math.isqrt(output.shape[1] - prefix)
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None) or (side, side)
    if grid[0] * grid[1] != output.shape[1] - prefix:
        return None
    return CamLayer(name, module, "tokens", (int(grid[0]), int(grid[1])), prefix)

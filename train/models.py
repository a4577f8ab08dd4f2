"""Models: a timm backbone that takes the pixels the server takes and owns its normalisation."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from torch import Tensor, nn

from serve.contract.errors import UsageError

__all__ = [
    "PhotoClassifier",
    "build_model",
    "check_size",
    "count_flops",
    "count_parameters",
]


class PhotoClassifier(nn.Module):
    """uint8 pixels in, logits out: the same contract as the exported ONNX graph.

    Args:
        backbone: a timm classifier.
        arch: its timm name.
        mean: of RGB in [0, 1], that the backbone's input is normalised with.
        std: likewise.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        arch: str,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.arch = arch
        self.mean, self.std = mean, std
        scale = torch.tensor([1 / (255 * value) for value in std])
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.scale.device

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) RGB in 0..255, uint8 or float -> (N, K) raw logits.

        The cast stands before the transpose: TensorRT refuses to transpose uint8.
        """
        pixels = images.float().permute(0, 3, 1, 2)
        logits: Tensor = self.backbone(pixels * self.scale + self.shift)
        return logits


def build_model(
    arch: str, num_classes: int, *, size_px: int, drop_rate: float = 0.0
) -> PhotoClassifier:
    """Build a randomly initialised classifier.

    Raises:
        UsageError: timm knows no such model, or it cannot be built at this size.
    """
    if arch not in timm.list_models():
        near = difflib.get_close_matches(arch.split(".")[0], timm.list_models(), 4)
        hint = f"Near it: {', '.join(near)}." if near else "See timm.list_models()."
        raise UsageError(f"timm {timm.__version__} has no model {arch!r}.", hint)
    kwargs: dict[str, Any] = {"num_classes": num_classes, "drop_rate": drop_rate}
    try:
        try:
            backbone = timm.create_model(arch, img_size=size_px, **kwargs)
        except TypeError:  # convolutional models take any size and no such argument
            backbone = timm.create_model(arch, **kwargs)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(
            f"timm cannot build {arch} for {size_px} px and {num_classes} classes ({error})."
        ) from error
    config = backbone.pretrained_cfg
    return PhotoClassifier(backbone, arch, tuple(config["mean"]), tuple(config["std"]))


def check_size(model: PhotoClassifier, size_px: int) -> None:
    """Run one blank image of another size than the model was built for.

    Raises:
        UsageError: the architecture is bound to the size it was built for, as many transformers.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8, device=model.device))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{model.arch} was built for one size and cannot take {size_px} px ({error}).",
            "Set train_size_px and test_size_px to the same value, or choose a convolutional arch.",
        ) from error
    finally:
        model.train(was_training)


def count_parameters(model: nn.Module) -> int:
    """Number of weights, buffers not counted."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, size_px: int) -> int:
    """Multiply-adds of one image, counted by torch's FLOP counter (which counts each as two)."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    model.eval()
    counter = FlopCounterMode(display=False)
    device = next(model.parameters()).device
    with torch.enable_grad(), counter:  # its hooks fail without gradients on some transformers
        model(torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8, device=device))
    model.train(was_training)
    return int(counter.get_total_flops() // 2)

"""Models: a timm backbone that takes the pixels the server takes and owns its normalisation."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any, Literal, overload

import timm
import torch
from torch import Tensor, nn

from serve.contract.errors import UsageError
from train.models.names import check_model_name

__all__ = [
    "HEADS",
    "ImageClassifier",
    "build_model",
    "check_size",
    "count_flops",
    "count_parameters",
]

# Heads by name: none is timm's own linear one; else what puts it onto a network, a function of
# (backbone, arch, size_px, dim, drop_rate) that gives a network with `head_name` and `body`.
HEADS = {"linear": None, "bilinear": "train.extras.bilinear:with_bilinear_head"}


class ImageClassifier(nn.Module):
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

    @property
    def num_classes(self) -> int:
        """K."""
        return int(self.backbone.num_classes)  # type: ignore[arg-type]

    @property
    def head(self) -> str:
        """Its name in HEADS."""
        return str(getattr(self.backbone, "head_name", "linear"))

    @property
    def body(self) -> nn.Module:
        """The timm network, without a head of HEADS."""
        body: nn.Module = self.backbone if self.head == "linear" else self.backbone.body  # type: ignore[assignment]
        return body

    @property
    def num_features(self) -> int:
        """D, length of the features that enter the classifier; 0 where there are several."""
        head = self.backbone.get_classifier()  # type: ignore[operator]
        weights = head.parameters() if isinstance(head, nn.Module) else ()
        return next((int(weight.shape[1]) for weight in weights if weight.ndim > 1), 0)

    @overload
    def forward(self, images: Tensor, with_features: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, images: Tensor, with_features: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, images: Tensor, with_features: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(N, H, W, 3) RGB in 0..255, uint8 or float -> (N, K) raw logits.

        With `with_features` also the (N, D) features that enter the classifier, after dropout.
        The cast stands before the transpose: TensorRT refuses to transpose uint8.

        Raises:
            UsageError: features are asked for, and the architecture has several classifiers.
        """
        pixels = images.float().permute(0, 3, 1, 2)
        normalised = pixels * self.scale + self.shift
        if not with_features:
            logits: Tensor = self.backbone(normalised)
            return logits
        return self._with_features(normalised)

    def _with_features(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """Caught where they enter: timm's own split of the head fails on some architectures."""
        head = self.backbone.get_classifier()  # type: ignore[operator]
        caught: list[Tensor] = []
        if isinstance(head, nn.Module):
            handle = head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
            try:
                logits = self.backbone(normalised)
            finally:
                handle.remove()
        if len(caught) != 1 or caught[0].numel() != len(normalised) * self.num_features:
            raise UsageError(
                f"{self.arch} has no single classifier whose features a loss could use.",
                "Set loss.centre_weight = 0, or choose another arch.",
            )
        return logits, caught[0].flatten(1)


def build_model(
    arch: str,
    num_classes: int,
    *,
    size_px: int,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    head: str = "linear",
    bilinear_dim: int = 4096,
) -> ImageClassifier:
    """Build a randomly initialised classifier.

    Args:
        arch: timm name.
        num_classes: K.
        size_px: side of the images, for architectures that are bound to one.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth.
        head: linear, or bilinear for compact bilinear pooling.
        bilinear_dim: width of the bilinear features.

    Raises:
        UsageError: timm knows no such model, it cannot be built at this size, it has no stochastic
            depth, or a bilinear head is asked for and it gives no feature maps.
        ValueError: an unknown head.
    """
    if head not in HEADS:
        raise ValueError(f"head = {head!r}: expected {' or '.join(HEADS)}.")
    if arch not in timm.list_models():
        check_model_name(arch)
    kwargs: dict[str, Any] = {"num_classes": num_classes}
    kwargs["drop_rate"] = drop_rate if head == "linear" else 0.0  # else the head has it alone
    if drop_path_rate:
        kwargs["drop_path_rate"] = drop_path_rate
    try:
        try:
            backbone = timm.create_model(arch, img_size=size_px, **kwargs)
        except TypeError:  # convolutional models take any size and no such argument
            backbone = timm.create_model(arch, **kwargs)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(
            f"timm cannot build {arch} for {size_px} px and {num_classes} classes ({error}).",
            "Set drop_path_rate = 0." if "drop_path_rate" in str(error) else "Choose another arch.",
        ) from error
    if plug := HEADS[head]:
        backbone = resolve_name(plug)(backbone, arch, size_px, bilinear_dim, drop_rate)
    config = backbone.pretrained_cfg
    return ImageClassifier(backbone, arch, tuple(config["mean"]), tuple(config["std"]))


def check_size(model: ImageClassifier, size_px: int) -> None:
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

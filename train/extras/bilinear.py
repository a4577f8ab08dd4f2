"""Compact bilinear pooling: second-order features for classes that differ in fine detail.

Bilinear features are the products of all pairs of channels, summed over positions. Their count
sketch estimates them in a few thousand numbers, and is a circular convolution of two short
sketches, which the Fourier transform makes cheap.

Source: Gao et al. 2016, arXiv:1511.06062, algorithm 2 (tensor sketch).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serve.contract.errors import UsageError

__all__ = ["BilinearClassifier", "CompactBilinear", "signed_sqrt", "with_bilinear_head"]

SEED = 20160627  # of the hashes: fixed, so equal models sketch alike; they are saved all the same
LENGTH = 16.0  # of what the classifier gets: unit length keeps logits small (arXiv:1703.09507)
EPS = 1e-6  # gives the root a finite slope at zero: rounding errors of empty bins stay small


class CompactBilinear(nn.Module):
    """(N, C, H, W) feature maps -> (N, dim): sketch of the pooled outer product, signed root, l2.

    Args:
        channels: C.
        dim: length of the sketch; 1 024 to 8 192 are usual.
        seed: of the hash functions.
    """

    hash_1: Tensor
    hash_2: Tensor
    sign_1: Tensor
    sign_2: Tensor

    def __init__(self, channels: int, dim: int, *, seed: int = SEED) -> None:
        super().__init__()
        self.dim = dim
        random = torch.Generator().manual_seed(seed)
        for number in (1, 2):
            hashes = torch.randint(0, dim, (channels,), generator=random)
            signs = torch.randint(0, 2, (channels,), generator=random).float() * 2 - 1
            self.register_buffer(f"hash_{number}", hashes)
            self.register_buffer(f"sign_{number}", signs)

    def forward(self, maps: Tensor) -> Tensor:
        """Features of unit length."""
        return F.normalize(signed_sqrt(self.sketch(maps)), dim=1)

    def sketch(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, dim): its dot products estimate those of the pooled outer products.

        Always in fp32: half precision has no Fourier transform of such lengths on a CPU, and too
        little range on a GPU.
        """
        with torch.autocast(maps.device.type, enabled=False):
            positions = maps.float().flatten(2).transpose(1, 2)  # (N, H * W, C)
            first = torch.fft.rfft(self._count_sketch(positions, self.hash_1, self.sign_1))
            second = torch.fft.rfft(self._count_sketch(positions, self.hash_2, self.sign_2))
            sketch: Tensor = torch.fft.irfft((first * second).sum(1), n=self.dim)
            return sketch / positions.shape[1]

    def _count_sketch(self, positions: Tensor, hashes: Tensor, signs: Tensor) -> Tensor:
        """(N, P, C) -> (N, P, dim): each channel is added, with its sign, to one bin."""
        empty = positions.new_zeros(positions.shape[0], positions.shape[1], self.dim)
        sketch: Tensor = empty.index_add(2, hashes, positions * signs)
        return sketch


def signed_sqrt(values: Tensor) -> Tensor:
    """sign(x) * sqrt(|x|), with a finite gradient at zero."""
    root: Tensor = values / (values.abs() + EPS).sqrt()
    return root


class BilinearClassifier(nn.Module):
    """A timm network without its head, compact bilinear pooling, dropout and a linear layer.

    It answers to what the rest of stillroom asks of a timm classifier.

    Args:
        body: timm model whose `forward` gives feature maps: after reset_classifier(0, "").
        channels: of those maps.
        num_classes: K.
        dim: of the bilinear features.
        drop_rate: dropout before the linear layer.
    """

    head_name = "bilinear"

    def __init__(
        self, body: nn.Module, channels: int, num_classes: int, *, dim: int, drop_rate: float
    ) -> None:
        super().__init__()
        self.body = body
        self.global_pool = CompactBilinear(channels, dim)
        self.head_drop = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(dim, num_classes)
        self.num_classes, self.num_features = num_classes, dim
        self.pretrained_cfg: Any = body.pretrained_cfg

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, K) logits."""
        return self.forward_head(self.forward_features(pixels))

    def forward_features(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, h, w)."""
        maps: Tensor = self.body(pixels)
        return maps

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, C, h, w) -> (N, K) logits, or the (N, dim) features before them."""
        features: Tensor = self.head_drop(self.global_pool(maps) * LENGTH)
        return features if pre_logits else self.classifier(features)

    def get_classifier(self) -> nn.Module:
        """The linear layer."""
        return self.classifier

    def group_matcher(self, coarse: bool = False) -> Any:
        """Timm's groups of layers; the new head belongs to the last.

        Raises:
            AttributeError: timm does not divide this body.
        """
        matcher = self.body.group_matcher(coarse=coarse)  # type: ignore[operator]
        if callable(matcher):  # name -> number of its group
            return lambda name: (
                matcher(name.removeprefix("body.")) if name.startswith("body.") else math.inf
            )
        return {name: _below_body(patterns) for name, patterns in matcher.items()}

    def no_weight_decay(self) -> set[str]:
        """Parameters that the body wants without decay."""
        names: set[str] = getattr(self.body, "no_weight_decay", set)()
        return {f"body.{name}" for name in names}


def _below_body(patterns: Any) -> Any:
    """Timm's regular expressions for names that have "body." before them."""
    if isinstance(patterns, str):
        return rf"^body\.(?:{patterns.replace('^', '')})"
    if isinstance(patterns, (list, tuple)):
        kind = type(patterns)
        return kind(_below_body(p) if isinstance(p, (str, list, tuple)) else p for p in patterns)
    return patterns


def with_bilinear_head(
    backbone: nn.Module, arch: str, size_px: int, dim: int, drop_rate: float
) -> BilinearClassifier:
    """Put compact bilinear pooling onto a timm network: a head of `train.models.classifier.HEADS`.

    Raises:
        UsageError: the network gives no square feature maps.
    """
    num_classes = int(backbone.num_classes)  # type: ignore[arg-type]
    shape: tuple[int, ...] = ()
    try:
        backbone.reset_classifier(0, "")  # type: ignore[operator]
        with torch.no_grad():
            shape = tuple(backbone.eval()(torch.zeros(1, 3, size_px, size_px)).shape)
    except (AssertionError, TypeError, ValueError, RuntimeError, AttributeError):
        pass
    if len(shape) != 4 or shape[2] != shape[3]:  # tokens, or channels last
        raise UsageError(
            f"{arch} gives no feature maps (channels, height, width), which a bilinear head pools.",
            "Set head = linear, or choose a convolutional arch such as resnet50.",
        )
    backbone.train()
    return BilinearClassifier(backbone, shape[1], num_classes, dim=dim, drop_rate=drop_rate)

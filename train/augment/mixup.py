"""Mixup and cutmix of a batch: two images in one, two classes in one target."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

from train.losses.targets import class_numbers, one_hot

__all__ = ["Mix"]


class Mix:
    """Mix each image of a batch with the one before it; one share for the whole batch.

    Randomness is that of torch's global generator on the CPU, whatever the device of the batch:
    seed it before the call. With both kinds on, half the batches get each.

    Args:
        classes: K.
        mixup: alpha of the Beta distribution of the share; 0 = off. 0.2 is usual.
        cutmix: likewise; 0 = off. 1.0 is usual.

    Raises:
        ValueError: an alpha is below 0.

    Source: Zhang et al. 2017, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899.
    """

    def __init__(self, classes: int, *, mixup: float = 0.0, cutmix: float = 0.0) -> None:
        if min(mixup, cutmix) < 0:
            raise ValueError(f"mixup = {mixup}, cutmix = {cutmix}: expected 0 or more.")
        self._classes = classes
        kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self._mixers = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha]

    @property
    def is_on(self) -> bool:
        """Whether batches change at all."""
        return bool(self._mixers)

    def class_numbers(self, labels: Tensor) -> Tensor:
        """(N,) class numbers of labels that may be mixed; see `train.losses.targets`."""
        return class_numbers(labels, self._classes)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix one batch.

        Args:
            images: (N, H, W, 3) in 0..255, uint8 or float; stays as it is.
            labels: (N,) int64; `train.losses.targets.UNLABELLED` where there is none.

        Returns:
            Images (N, H, W, 3) float32 in 0..255 and targets (N, K) float32, rows that sum to 1,
            or to the labelled share of the mixture; both unmixed where nothing is on.
        """
        pixels = images.float().permute(0, 3, 1, 2)
        targets = one_hot(labels, self._classes)
        if self._mixers:
            chosen = int(torch.randint(len(self._mixers), ())) if len(self._mixers) > 1 else 0
            pixels, targets = self._mixers[chosen](pixels, targets)
        return pixels.permute(0, 2, 3, 1).contiguous(), targets

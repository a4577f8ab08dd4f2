"""What a batch says about its images: a class each, shares of classes, or nothing.

(N,) int64 class numbers, UNLABELLED where an image has none; or (N, K) float32 probabilities of
mixed images, whose rows sum to the share that is labelled; or (N, K + M) float32, such rows
with M figures behind them that only the objective reads.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["UNLABELLED", "class_numbers", "one_hot"]

UNLABELLED = -1
WHOLE = 1 - 1e-3  # a row that sums to less is in part of an unlabelled image


def class_numbers(labels: Tensor, classes: int) -> Tensor:
    """(N,) class numbers, the larger share's where they are mixed.

    Args:
        labels: of a batch, in any of the forms above.
        classes: K.

    Returns:
        UNLABELLED for images that are not wholly labelled.
    """
    if labels.ndim == 1:
        return labels
    shares = labels[:, :classes]
    return shares.argmax(1).where(shares.sum(1) >= WHOLE, UNLABELLED)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(N,) class numbers as (N, K) float32 rows; those of unlabelled images are zero."""
    return F.one_hot(labels.clamp(min=0), classes).float() * (labels >= 0)[:, None]

"""What is minimised: an objective maps a batch to one loss and its named terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CrossEntropy", "Objective", "StepOutput"]


@dataclass(frozen=True)
class StepOutput:
    """Result of an objective on one batch.

    Args:
        loss: scalar, to be minimised.
        logits: (N, K) of the model that is trained.
        terms: named scalars for the log, detached.
    """

    loss: Tensor
    logits: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """Forward and loss. What it needs beside the model (a teacher) lives inside it."""

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        """Score one batch.

        Args:
            model: in the mode that the freeze policy set.
            images: (N, H, W, 3) uint8.
            labels: (N,) int64.
        """
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy with label smoothing in [0, 1)."""

    label_smoothing: float = 0.0

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        """As `Objective`; the one term is `ce`."""
        logits = model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        return StepOutput(loss, logits, {"ce": loss.detach()})

"""Overfit one batch: what any model must manage before it is given a dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from torch import Tensor

from train.models.classifier import ImageClassifier

__all__ = ["OverfitResult", "overfit_one_batch"]

SHARE = 0.1  # of ln K: a loss below it means that the batch is overfitted
PATIENCE = 3  # times the steps, once the loss has halved: slow is not a fault


@dataclass(frozen=True)
class OverfitResult:
    """What became of the loss on one batch.

    Args:
        losses: cross-entropy before each step, in nats.
        target: what the loss had to fall below.
        silent: parameters that learn and whose gradient was zero in every step.
    """

    losses: list[float]
    target: float
    silent: list[str]

    @property
    def ok(self) -> bool:
        """Whether the batch was learnt."""
        return self.losses[-1] < self.target


def overfit_one_batch(
    model: ImageClassifier, images: Tensor, labels: Tensor, *, optimizer: str, lr: float, steps: int
) -> OverfitResult:
    """Fit one batch, without augmentation, weight decay or schedule, until it is known.

    Args:
        model: in the mode it trains in; changed.
        images: (N, H, W, 3) uint8.
        labels: (N,) class numbers.
        optimizer: adamw or sgd.
        lr: learning rate, constant.
        steps: at most; three times as many where the loss has halved by then.
    """
    optimiser = create_optimizer_v2(model.backbone, opt=optimizer, lr=lr, weight_decay=0.0)
    learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
    silent, classes = set(learning), model.num_classes
    target, losses = SHARE * math.log(classes), []
    for step in range(PATIENCE * steps + 1):
        torch.manual_seed(step)  # dropout
        loss = F.cross_entropy(model(images).float(), labels)
        losses.append(float(loss.detach()))
        known = losses[-1] < target and step > 2  # the gradients of some steps are looked at
        slow = step >= steps and losses[-1] > losses[0] / 2
        if known or slow or not math.isfinite(losses[-1]) or step == PATIENCE * steps:
            break
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        silent -= {n for n in silent if _moves(learning[n].grad)}
        optimiser.step()
    return OverfitResult(losses, target, [name for name in learning if name in silent])


def _moves(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())

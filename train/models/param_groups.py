"""A network as groups of layers, first to last: what is frozen, and what learns how fast."""

from __future__ import annotations

from typing import Any

from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from torch import nn
from torch.optim import Optimizer

from serve.contract.errors import UsageError
from train.models.classifier import ImageClassifier

__all__ = ["build_optimizer", "first_groups", "layer_groups"]


def layer_groups(model: ImageClassifier) -> list[list[str]]:
    """Names of the backbone's parameters by group: stem, stages, head, as timm divides them.

    Raises:
        UsageError: timm does not divide this architecture.
    """
    try:
        matcher = model.backbone.group_matcher(coarse=True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise UsageError(
            f"timm does not divide {model.arch} into groups of layers.",
            "Set freeze_stages = 0 and layer_decay = 1.",
        ) from error
    groups = group_parameters(model.backbone, matcher)
    return [groups[key] for key in sorted(groups)]


def first_groups(model: ImageClassifier, count: int) -> set[str]:
    """Names of the parameters in the first `count` groups; the stem is the first.

    Raises:
        UsageError: the model has no more groups than that, so nothing but the head would be left.
    """
    if not count:
        return set()
    groups = layer_groups(model)
    if count >= len(groups):
        raise UsageError(
            f"freeze_stages = {count}: {model.arch} has {len(groups)} groups of layers, the head "
            "among them.",
            f"Choose at most {len(groups) - 1}; for the classifier alone set epochs = 0 and "
            "head_epochs.",
        )
    return {name for group in groups[:count] for name in group}


def build_optimizer(
    model: ImageClassifier, *, name: str, lr: float, weight_decay: float, layer_decay: float
) -> Optimizer:
    """Timm's optimiser over the parameters that learn.

    Args:
        model: with `requires_grad` set.
        name: adamw or sgd.
        lr: of the last group.
        weight_decay: not of biases and norms.
        layer_decay: factor of the rate from each group to the one before; groups get `lr_scale`.

    Raises:
        UsageError: layer_decay is not 1 and timm does not divide this architecture.
    """
    # Fused: one kernel for all weights, which can skip a step without asking the host.
    options: dict[str, Any] = {
        "opt": name,
        "lr": lr,
        "weight_decay": weight_decay,
        "fused": True,
    }
    if layer_decay != 1:
        layer_groups(model)  # for its error
        options["layer_decay"] = layer_decay
    backbone: nn.Module = model.backbone
    optimizer: Optimizer = create_optimizer_v2(backbone, **options)
    return optimizer

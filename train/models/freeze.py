"""Freeze policies: which tensors a training may change, and which layers are in training mode."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from train.models.classifier import ImageClassifier
from train.models.param_groups import first_groups

__all__ = ["FreezePolicy", "HeadOnly", "TrainAll"]


class FreezePolicy(Protocol):
    """Set up a model once, then put it in training mode before each epoch."""

    def freeze(self, model: ImageClassifier) -> None:
        """Set `requires_grad` of every parameter."""
        ...

    def set_mode(self, model: ImageClassifier) -> None:
        """Put layers into training or evaluation mode."""
        ...


class TrainAll:
    """Everything learns, but for the first groups of layers where asked for.

    Args:
        freeze_stages: groups of layers that stay as they are; the stem is the first. Their
            batch norms keep their statistics, and nothing in them is dropped at random.
    """

    def __init__(self, freeze_stages: int = 0) -> None:
        self._freeze_stages = freeze_stages

    def freeze(self, model: ImageClassifier) -> None:
        """As `FreezePolicy`.

        Raises:
            UsageError: the model has not so many groups.
        """
        frozen = first_groups(model, self._freeze_stages)
        for name, parameter in model.backbone.named_parameters():
            parameter.requires_grad_(name not in frozen)

    def set_mode(self, model: ImageClassifier) -> None:
        """As `FreezePolicy`."""
        model.train()
        frozen = first_groups(model, self._freeze_stages)
        for name, module in model.backbone.named_modules():
            below = {f"{name}.{key}" for key, _ in module.named_parameters()}
            if below and below <= frozen:
                module.eval()  # with the dropout and stochastic depth in it


class HeadOnly:
    """Only the classifier learns; batch norm keeps its pretrained statistics."""

    def freeze(self, model: ImageClassifier) -> None:
        """As `FreezePolicy`."""
        model.requires_grad_(False)
        for classifier in classifiers_of(model):
            classifier.requires_grad_(True)

    def set_mode(self, model: ImageClassifier) -> None:
        """As `FreezePolicy`."""
        model.eval()
        for classifier in classifiers_of(model):
            classifier.train()


def classifiers_of(model: ImageClassifier) -> list[nn.Module]:
    """The last linear layer of the backbone; both, where timm's distilled networks average two.

    Raises:
        TypeError: the backbone declares something else.
    """
    head = model.backbone.get_classifier()  # type: ignore[operator]
    heads = list(head) if isinstance(head, (tuple, list)) else [head]
    if not (heads and all(isinstance(head, nn.Module) for head in heads)):
        raise TypeError(f"{model.arch} has {type(head).__name__} as classifier; expected layers.")
    return heads


def classifier_of(model: ImageClassifier) -> nn.Module:
    """The last linear layer of the backbone.

    Raises:
        TypeError: the backbone declares several heads.
    """
    head = model.backbone.get_classifier()  # type: ignore[operator]
    if not isinstance(head, nn.Module):
        raise TypeError(
            f"{model.arch} has {type(head).__name__} as classifier; one layer is needed."
        )
    return head

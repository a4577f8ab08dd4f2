"""Freeze policies: which tensors a training may change, and which layers are in training mode."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from train.models import PhotoClassifier

__all__ = ["FreezePolicy", "HeadOnly", "TrainAll"]


class FreezePolicy(Protocol):
    """Set up a model once, then put it in training mode before each epoch."""

    def freeze(self, model: PhotoClassifier) -> None:
        """Set `requires_grad` of every parameter."""
        ...

    def set_mode(self, model: PhotoClassifier) -> None:
        """Put layers into training or evaluation mode."""
        ...


class TrainAll:
    """Everything learns."""

    def freeze(self, model: PhotoClassifier) -> None:
        """As `FreezePolicy`."""
        model.requires_grad_(True)

    def set_mode(self, model: PhotoClassifier) -> None:
        """As `FreezePolicy`."""
        model.train()


class HeadOnly:
    """Only the classifier learns; batch norm keeps its pretrained statistics."""

    def freeze(self, model: PhotoClassifier) -> None:
        """As `FreezePolicy`."""
        model.requires_grad_(False)
        classifier_of(model).requires_grad_(True)

    def set_mode(self, model: PhotoClassifier) -> None:
        """As `FreezePolicy`."""
        model.eval()
        classifier_of(model).train()


def classifier_of(model: PhotoClassifier) -> nn.Module:
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

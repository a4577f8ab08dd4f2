"""What is minimised: an objective maps a batch to one loss and its named terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from train.data.images import LabelledImage
from train.options import LossOptions, TrainOptions

__all__ = [
    "TERMS",
    "CrossEntropy",
    "Objective",
    "StepOutput",
    "Supervised",
    "Term",
    "TrainingTask",
    "build_objective",
]

# The terms of a loss: whether a recipe asks for one, and what builds it, a function of
# (options, counts, num_features) that gives its name in the log and the `Term`.
TERMS: list[tuple[Callable[[LossOptions], bool], str]] = [
    (lambda _: True, "train.losses.label_loss:label_term"),
    (lambda loss: loss.centre_weight > 0, "train.extras.center_loss:center_term"),
]


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
            images: (N, H, W, 3) in 0..255, uint8, or float32 where they are mixed.
            labels: (N,) int64 class numbers, or (N, K) float32 probabilities of mixed images.
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


@dataclass(frozen=True)
class Term:
    """One summand of a loss.

    Args:
        loss: maps (what it reads, labels) to a scalar; a module's tensors are saved and restored.
        weight: >= 0, factor in the sum; the log shows the term without it.
        reads: the model's logits (N, K), or its features (N, D) before the classifier.
    """

    loss: nn.Module
    weight: float = 1.0
    reads: Literal["logits", "features"] = "logits"

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"weight = {self.weight}: expected 0 or more.")


class Supervised(nn.Module):
    """Objective: a weighted sum of named terms. A further term is a further entry.

    Args:
        terms: by the name that the log shows; their weights are the place to balance them.

    Raises:
        ValueError: no terms.

    Example:
        centre = CenterLoss(classes=5, features=1280)
        Supervised({"ce": Term(LabelLoss()), "centre": Term(centre, 1e-3, reads="features")})
    """

    def __init__(self, terms: Mapping[str, Term]) -> None:
        super().__init__()
        if not terms:
            raise ValueError("terms = {}: expected at least one.")
        self._terms = dict(terms)
        self.losses = nn.ModuleDict({name: term.loss for name, term in terms.items()})

    def forward(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        """As `Objective`; the terms are logged unweighted, under their names."""
        outputs: dict[str, Tensor] = {}
        if any(term.reads == "features" for term in self._terms.values()):
            outputs["logits"], outputs["features"] = model(images, with_features=True)
        else:
            outputs["logits"] = model(images)
        raw = {name: term.loss(outputs[term.reads], labels) for name, term in self._terms.items()}
        loss = torch.stack([self._terms[name].weight * value for name, value in raw.items()]).sum()
        detached = {name: value.detach() for name, value in raw.items()}
        return StepOutput(loss, outputs["logits"], detached)


@dataclass(frozen=True)
class TrainingTask:
    """What the phases that train all layers do; the classifier alone learns from labels only.

    Args:
        objective: forward and loss.
        view_px: side of the views that it asks for; 0 is the training size.
        unlabelled: further training images, with absolute paths and empty labels.
        soft_targets: (N, M) float32: figures that the objective gets with the label of each
            training image, then of each unlabelled one (`train.loader.soft_targets`).
        val_logits: (n, K) logits on the val split, which every epoch is compared with.
        lineage: digests of all that; a state of another task is not resumed from.
    """

    objective: Objective
    view_px: int = 0
    unlabelled: tuple[LabelledImage, ...] = ()
    soft_targets: NDArray[np.float32] | None = None
    val_logits: NDArray[np.float32] | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)


def build_objective(options: TrainOptions, *, counts: ArrayLike, num_features: int) -> Supervised:
    """The objective on labels that a recipe asks for.

    Args:
        options: `loss` and `label_smoothing`.
        counts: (K,) training images of each class.
        num_features: D, length of the model's features before the classifier.

    Raises:
        DatasetError: class weights are asked for and a class has no image.
    """
    terms = dict(
        resolve_name(builder)(options, counts, num_features)
        for asked, builder in TERMS
        if asked(options.loss)
    )
    return Supervised(terms)

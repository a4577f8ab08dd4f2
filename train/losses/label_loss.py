"""Losses on logits and labels: cross-entropy with smoothing, class weights, focal loss."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from serve.contract.errors import DatasetError
from train.losses.objective import Term
from train.options import LossOptions, TrainOptions

__all__ = ["LabelLoss", "build_label_loss", "class_weights", "cross_entropy", "focal_loss"]

EFFECTIVE_BETA = 0.999  # arXiv:1901.05555 tries 0.9 to 0.9999: about 1 000 images saturate
NEAR_ONE = -1e-7  # log of the largest probability that float32 tells from 1


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy: minus the sum over classes of weight * target * log probability.

    Args:
        logits: (N, K), raw.
        targets: (N,) int64 class numbers, or (N, K) probabilities (mixed images).
        weights: (K,) of the classes.
        label_smoothing: in [0, 1); this share of each target is spread evenly over all K.

    Returns:
        Scalar, the mean over N. Torch's own divides weighted losses of class numbers by the
        batch's sum of weights, which takes back the weight of a class that fills its batch.
    """
    logits = logits.float()
    if weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    losses = F.cross_entropy(
        logits, targets, weights, reduction="none", label_smoothing=label_smoothing
    )
    return losses.mean()


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy whose every summand is multiplied by (1 - p) ** gamma.

    For one class number an image this is equation 4 of the paper on softmax probabilities,
    with `weights` as its alpha. Smoothed and mixed targets y sum it over the classes:
    -sum_k weight_k y_k (1 - p_k)^gamma log p_k.

    Args:
        logits: (N, K), raw.
        targets: (N,) int64 class numbers, or (N, K) probabilities.
        gamma: >= 0; 0 is `cross_entropy`, 2 is usual.
        weights: (K,) of the classes.
        label_smoothing: in [0, 1).

    Returns:
        Scalar, the mean over N.

    Raises:
        ValueError: gamma is below 0.

    Source: Lin et al. 2017, arXiv:1708.02002, equations 4 and 5.
    """
    if gamma < 0:
        raise ValueError(f"gamma = {gamma}: expected 0 or more.")
    if gamma == 0:
        return cross_entropy(logits, targets, weights=weights, label_smoothing=label_smoothing)
    log_p = F.log_softmax(logits.float(), dim=1)
    classes = log_p.shape[1]
    if targets.ndim == 1:
        targets = F.one_hot(targets, classes)
    shares = targets.to(log_p) * (1 - label_smoothing) + label_smoothing / classes
    if weights is not None:
        shares = shares * weights
    # Through the logarithm, bounded: at p = 1 the gradient of (1 - p) ** 0.5 is infinite.
    log_rest = torch.log(-torch.expm1(log_p.clamp(max=NEAR_ONE)))
    return -(shares * (gamma * log_rest).exp() * log_p).sum(1).mean()


def class_weights(
    counts: ArrayLike, kind: str, *, beta: float = EFFECTIVE_BETA
) -> NDArray[np.float64]:
    """Weights that make rare classes count more, with a mean of 1 over the training images.

    Args:
        counts: (K,) training images of each class.
        kind: inverse: proportional to 1 / count, so that all classes weigh the same together;
            effective: to (1 - beta) / (1 - beta ** count), which stops growing smaller at
            about 1 / (1 - beta) images, where more of them show little new.
        beta: in [0, 1), of `effective`; 0 means unweighted, towards 1 it is `inverse`.

    Returns:
        (K,) weights; sum(counts * weights) == sum(counts).

    Raises:
        ValueError: kind or beta is unknown or out of range.
        DatasetError: a class has no image.

    Source: Cui et al. 2019, arXiv:1901.05555, equation 4.
    """
    number: NDArray[np.float64] = np.asarray(counts, dtype=np.float64)
    if not 0 <= beta < 1:
        raise ValueError(f"beta = {beta}: expected 0 to less than 1.")
    if not (number > 0).all():
        raise DatasetError(
            f"Class number {int(number.argmin())} has no image in train, so it has no weight.",
            "Add images of it, or set loss.class_weights=none.",
        )
    if kind == "inverse":
        weights = 1 / number
    elif kind == "effective":
        weights = np.ones_like(number) if beta == 0 else -1 / np.expm1(number * math.log(beta))
    else:
        raise ValueError(f"class_weights = {kind!r}: expected inverse or effective.")
    mean = (number * weights).sum() / number.sum()
    normalised: NDArray[np.float64] = weights / mean
    return normalised


class LabelLoss(nn.Module):
    """`focal_loss` with its settings; the defaults are plain cross-entropy.

    Args:
        gamma: of the focal loss; 0 is cross-entropy.
        label_smoothing: in [0, 1).
        weights: (K,) of the classes; moves with the module, is not part of its state.
    """

    weights: Tensor | None

    def __init__(
        self,
        *,
        gamma: float = 0.0,
        label_smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.gamma, self.label_smoothing = gamma, label_smoothing
        self.register_buffer("weights", weights, persistent=False)

    @property
    def name(self) -> str:
        """The term's name in the log: `ce` or `focal`."""
        return "focal" if self.gamma else "ce"

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Score (N, K) logits against (N,) class numbers or (N, K) probabilities: a scalar."""
        return focal_loss(
            logits,
            labels,
            gamma=self.gamma,
            weights=self.weights,
            label_smoothing=self.label_smoothing,
        )


def build_label_loss(
    options: LossOptions, *, label_smoothing: float, counts: ArrayLike
) -> LabelLoss:
    """The loss that a recipe asks for.

    Args:
        options: kind, gamma and class weights.
        label_smoothing: in [0, 1).
        counts: (K,) training images of each class, which the class weights follow.

    Raises:
        DatasetError: weights are asked for and a class has no image.
    """
    weights = None
    if options.class_weights != "none":
        weights = torch.from_numpy(class_weights(counts, options.class_weights)).float()
    gamma = options.focal_gamma if options.kind == "focal" else 0.0
    return LabelLoss(gamma=gamma, label_smoothing=label_smoothing, weights=weights)


def label_term(options: TrainOptions, counts: ArrayLike, num_features: int) -> tuple[str, Term]:
    """The term on labels, which every objective has; see `train.losses.objective.TERMS`."""
    del num_features
    loss = build_label_loss(options.loss, label_smoothing=options.label_smoothing, counts=counts)
    return loss.name, Term(loss)

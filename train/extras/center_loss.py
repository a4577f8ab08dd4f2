"""Centre loss: features of one class lie close together, around a centre that follows them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from train.engine.world import current_world
from train.losses.objective import Term
from train.options import TrainOptions

__all__ = ["CenterLoss", "center_term"]


class CenterLoss(nn.Module):
    """Half the squared distance of each feature vector from the centre of its class.

    After each call in training mode the centres move towards the features they were compared
    with (equation 4 of the paper). A mixed image is compared with the mixture of its classes'
    centres, in the proportions of its target, and moves each by its share: for whole classes both
    are the paper's rules.

    Args:
        classes: K.
        features: D, length of a feature vector.
        rate: 0 to 1; how far a centre moves towards the mean of its class in a batch.

    Raises:
        ValueError: rate is out of range.

    Source: Wen et al. 2016, "A Discriminative Feature Learning Approach for Deep Face
    Recognition", ECCV, equations 2 to 4.
    """

    centres: Tensor

    def __init__(self, classes: int, features: int, *, rate: float = 0.5) -> None:
        super().__init__()
        if not 0 <= rate <= 1:
            raise ValueError(f"rate = {rate}: expected 0 to 1.")
        self.rate = rate
        self.register_buffer("centres", torch.zeros(classes, features))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Score one batch, then move the centres.

        Args:
            features: (N, D), as the classifier takes them.
            labels: (N,) int64 class numbers, or (N, K) probabilities.

        Returns:
            Scalar, the mean over N of a sum over D: it grows with the width of the features, so
            weights of 1e-4 to 1e-2 are usual.

        Raises:
            ValueError: the features have another width than the centres.
        """
        classes, width = self.centres.shape
        if features.ndim != 2 or features.shape[1] != width:
            raise ValueError(
                f"Features of shape {tuple(features.shape)}: expected (N, {width}), as the centres."
            )
        shares = F.one_hot(labels, classes) if labels.ndim == 1 else labels
        shares = shares.to(self.centres)
        with torch.autocast(features.device.type, enabled=False):
            residual = features.float() - shares @ self.centres
            if self.training:
                self._follow(residual.detach(), shares)
        return residual.square().sum(1).mean() / 2

    def _follow(self, residual: Tensor, shares: Tensor) -> None:
        """Move by the whole batch, of all ranks, so that all keep the same centres."""
        sums = current_world().all_reduce_sum(
            torch.cat([shares.T @ residual, shares.sum(0).unsqueeze(1)], 1)
        )
        self.centres += self.rate * (sums[:, :-1] / (1 + sums[:, -1:]))


def center_term(options: TrainOptions, counts: ArrayLike, num_features: int) -> tuple[str, Term]:
    """The term that a recipe asks for by `loss.centre_weight`."""
    loss = CenterLoss(np.size(counts), num_features, rate=options.loss.centre_rate)
    return "centre", Term(loss, options.loss.centre_weight, reads="features")

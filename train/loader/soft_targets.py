"""Figures of each image, such as teachers' predictions, that go to the objective with labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from train.loader.sampler import ViewKey
from train.loader.views import TrainingViews
from train.losses.targets import UNLABELLED

__all__ = ["ViewsWithTargets"]


class ViewsWithTargets(Dataset[tuple[NDArray[np.uint8], NDArray[np.float32]]]):
    """Views whose label is a row (K + M,) of `losses.targets`: shares of classes, then figures.

    Args:
        views: with class numbers.
        answers: (N, M) float32 by position.
        classes: K.

    Raises:
        ValueError: there are more or fewer answers than images.
    """

    def __init__(self, views: TrainingViews, answers: NDArray[np.float32], classes: int) -> None:
        if len(answers) != len(views):
            raise ValueError(f"{len(answers)} answers to {len(views)} images.")
        self._views, self.targets, self.shards = views, views.targets, views.shards
        shares = np.zeros((len(answers), classes), np.float32)
        (known,) = np.nonzero(self.targets != UNLABELLED)
        shares[known, self.targets[known]] = 1
        self._rows = np.concatenate([shares, answers], axis=1, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, key: ViewKey) -> Any:
        view, _, *rest = tuple[Any, ...](self._views[key])
        return view, self._rows[key.position], *rest

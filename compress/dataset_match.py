"""Whether a checkpoint belongs to a dataset: same classes, same order, same images."""

from __future__ import annotations

from pathlib import Path

from serve.contract.errors import CheckpointError
from train.data.dataset import Dataset
from train.data.images import dataset_digest
from train.models.checkpoint import ModelCard

__all__ = ["check_same_task"]

SHOWN = 20  # classes in a message


def check_same_task(card: ModelCard, dataset: Dataset, folder: Path) -> None:
    """Refuse a model of another task.

    Args:
        card: of the model.
        dataset: that it is to be used on.
        folder: of the model, for the message.

    Raises:
        CheckpointError: it has other classes, or was trained on another dataset.
    """
    if card.labels != dataset.labels:
        same = sorted(card.labels) == sorted(dataset.labels)
        raise CheckpointError(
            f"{folder} knows the classes {_listed(card.labels)}; the dataset has "
            f"{_listed(dataset.labels)}{', the same in another order' if same else ''}.",
            "Train it on this dataset: stillroom train PHOTOS --run RUN",
        )
    digest = dataset_digest(dataset.photos)
    if card.dataset_digest != digest:
        raise CheckpointError(
            f"{folder} was trained on dataset {card.dataset_digest[:12]}; this is {digest[:12]}.",
            "Train it on this dataset: stillroom train PHOTOS --run RUN",
        )


def _listed(labels: tuple[str, ...]) -> str:
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return ", ".join(labels[:SHOWN]) + more

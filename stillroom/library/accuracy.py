"""`stillroom.evaluate`: the accuracy of an artifact on labelled images, with its interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from serve.contract.errors import UsageError
from stillroom.library.model import ImageLike, load
from stillroom.library.rows import LabelledPrediction, labelled

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on labelled images.

    Args:
        accuracy: share of the images whose best label is the true one, in [0, 1].
        low: lower end of its 95 % Wilson interval.
        high: upper end.
        n: images.
        predictions: of each image, in their order.
    """

    accuracy: float
    low: float
    high: float
    n: int
    predictions: tuple[LabelledPrediction, ...]


def evaluate(
    run_or_artifact: str | PathLike[str],
    images: str | PathLike[str] | Iterable[tuple[ImageLike, str]],
    *,
    top_k: int | None = None,
) -> Evaluation:
    """Predict labelled images with an artifact, and count the right ones.

    Needs the `train` extra, for the interval.

    Args:
        run_or_artifact: a run folder that holds an artifact, or an artifact folder.
        images: a folder with a folder of images per class, a list file, or pairs of an image, as
            `Model.predict` takes it, and its label.
        top_k: how many labels to keep of each prediction; None keeps all.

    Raises:
        UsageError: no image, or a label that the model does not know.
        DatasetError: the dataset cannot be used.
        StillroomError: of `load`, and of an image that is not acceptable.
    """
    from train.evaluation import wilson_interval

    pairs = _images_of(images) if isinstance(images, str | PathLike) else list(images)
    truths = [truth for _, truth in pairs]
    with load(run_or_artifact) as model:
        if unknown := sorted(set(truths) - set(model.labels)):
            raise UsageError(
                f"The model has no label {unknown[0]!r}.", f"It has {', '.join(model.labels)}."
            )
        found = model.predict_batch((image for image, _ in pairs), top_k=top_k)
    if not found:
        raise UsageError("There are no images to evaluate.", "Give labelled images.")
    rows = tuple(labelled(one, truth) for one, truth in zip(found, truths, strict=True))
    hits = sum(row.correct for row in rows)
    return Evaluation(hits / len(rows), *wilson_interval(hits, len(rows)), len(rows), rows)


def _images_of(path: str | PathLike[str]) -> list[tuple[ImageLike, str]]:
    """Path and label of every image of a dataset."""
    from train.data.source import open_source

    source = open_source(Path(path))
    return [(source.root / photo.path, photo.label) for photo in source.photos]

"""Images sorted into folders by the class a model took them for, to be looked through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.special import softmax

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError
from train.data.image_bytes import read_bytes
from train.data.images import LabelledImage
from train.engine.seed import generator
from train.evaluation import Predictions

__all__ = ["Exported", "export_by_prediction", "file_name", "folder_names", "sample_by_prediction"]

MAX_NAME = 80  # characters of a label or stem: the whole stays below any file system's limit


@dataclass(frozen=True)
class Exported:
    """How many images were copied; those missing are gone or not the ones measured."""

    copied: int
    missing: int


def sample_by_prediction(
    predictions: Predictions, per_class: int, *, seed: int = 0
) -> dict[str, list[int]]:
    """Up to `per_class` images of every predicted class, each as likely as any other.

    Returns:
        Positions in the predictions, by predicted class; classes that were never answered too.
    """
    answers = predictions.predicted
    sample = {}
    for k, label in enumerate(predictions.labels):
        those = np.flatnonzero(answers == k)
        order = generator(seed, "by-prediction", label).permutation(len(those))
        sample[label] = [int(i) for i in those[order[:per_class]]]
    return sample


def export_by_prediction(
    predictions: Predictions, root: Path, out: Path, per_class: int, *, seed: int = 0
) -> Exported:
    """Copy a sample into `out`/<predicted class>/, the bytes unchanged.

    A name begins with the probability of the answer; then comes the true class, with WRONG before
    it where it is not the answer.

    Args:
        predictions: of one split.
        root: the dataset's folder.
        out: is created; must not exist.
        per_class: at most so many of each predicted class.
        seed: of the sample.
    """
    probabilities = softmax(predictions.logits.astype(np.float64), axis=1).max(axis=1)
    folders = folder_names(predictions.labels)
    copied = missing = 0
    for label, chosen in sample_by_prediction(predictions, per_class, seed=seed).items():
        folder = out / folders[label]
        folder.mkdir(parents=True)
        taken: set[str] = set()
        for i in chosen:
            photo = predictions.photos[i]
            data = _bytes_of(root, photo)
            if data is None:
                missing += 1
                continue
            name = _free(file_name(photo, label, float(probabilities[i])), taken)
            (folder / name).write_bytes(data)
            copied += 1
    return Exported(copied, missing)


def file_name(photo: LabelledImage, answer: str, probability: float) -> str:
    """For example 0.981_roses_x.jpg, or 0.734_WRONG-tulips_x.jpg in the folder of the answer."""
    path = PurePosixPath(photo.path)
    truth = _safe(photo.label)
    mark = truth if photo.label == answer else f"WRONG-{truth}"
    return f"{probability:.3f}_{mark}_{_safe(path.stem)}{path.suffix.lower()}"


def folder_names(labels: tuple[str, ...]) -> dict[str, str]:
    """A folder name for each class; two classes never share one, even where case is ignored."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        names[label] = _free(_safe(label), taken)
    return names


def _bytes_of(root: Path, photo: LabelledImage) -> bytes | None:
    """The file, where it is in the dataset's folder and still the one that was measured."""
    path = root / photo.path
    if not path.resolve().is_relative_to(root.resolve()):
        return None
    try:
        data = read_bytes(path)
    except (OSError, DatasetError):
        return None
    return data if sha256_of_bytes(data) == photo.sha256 else None


def _safe(text: str) -> str:
    """Part of a file name, on any file system: no separators, control or reserved characters."""
    cleaned = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]', "_", text)[:MAX_NAME].strip(" .")
    return cleaned or "_"


def _free(name: str, taken: set[str]) -> str:
    free = next(one for one in _variants(name) if one.lower() not in taken)
    taken.add(free.lower())
    return free


def _variants(name: str) -> Iterator[str]:
    yield name
    stem, dot, suffix = name.rpartition(".")
    number = 2
    while True:
        yield f"{stem}-{number}{dot}{suffix}" if stem else f"{name}-{number}"
        number += 1

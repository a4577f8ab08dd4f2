"""One training of a sweep: resumed where it was stopped, judged on val, kept as a few files."""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from serve.contract.digest import canonical_json, digest_of_json
from serve.contract.files import write_atomic
from serve.contract.preprocess import PreprocessSpec
from stillroom.report.paired import Paired, pair
from train.data.dataset import Dataset
from train.data.images import dataset_digest
from train.engine.callbacks import OnEpoch
from train.engine.trainer import METRICS
from train.evaluation import (
    Predictions,
    evaluate,
    predict_logits,
    read_predictions,
    write_predictions,
)
from train.fitting import fit_model
from train.loader.views import pixels_of
from train.losses.objective import TrainingTask
from train.models.checkpoint import save_checkpoint
from train.models.classifier import ImageClassifier
from train.options import TrainOptions

__all__ = [
    "PREDICTIONS",
    "STATE",
    "Stopwatch",
    "TrialResult",
    "abandon_trial",
    "compare_trials",
    "predict_val",
    "read_outcome",
    "train_trial",
]

OUTCOME, PREDICTIONS, STATE = "trial.json", "predictions.csv", "state"


@dataclass(frozen=True)
class TrialResult:
    """What one training came to, on the validation images.

    Args:
        n: validation images.
        hits: right predictions.
        top1: hits / n.
        top1_low: of its Wilson interval.
        top1_high: likewise.
        loss: cross-entropy in nats.
        parameters: number of weights.
        flops: multiply-adds of one image at the evaluation size.
        train_photos: number of images fitted to.
        epochs: of all phases.
        epoch_s: median seconds of an epoch, validation included.
        wall_s: seconds of the training, from its last start on.
    """

    n: int
    hits: int
    top1: float
    top1_low: float
    top1_high: float
    loss: float
    parameters: int
    flops: int
    train_photos: int
    epochs: int
    epoch_s: float
    wall_s: float


Listener = Callable[[dict[str, Any]], None]  # gets each epoch's record


class Stopwatch:
    """Listens to a training and tells the length of its epochs.

    Args:
        listen: gets each record, too.
    """

    def __init__(self, listen: Listener | None = None) -> None:
        self._listen = listen
        self._start = time.perf_counter()
        self._ends: list[tuple[str, float]] = []

    def __call__(self, record: dict[str, Any]) -> None:
        """An epoch ended."""
        self._ends.append((record["phase"], time.perf_counter()))
        if self._listen is not None:
            self._listen(record)

    @property
    def wall_s(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._start

    @property
    def epoch_s(self) -> float:
        """Median over the epochs of the last phase; the first one has the start-up in it."""
        phase = self._ends[-1][0] if self._ends else ""
        ends = [end for name, end in self._ends if name == phase]
        lengths = [after - before for before, after in itertools.pairwise(ends)]
        return statistics.median(lengths) if lengths else self.wall_s / max(1, len(self._ends))

    @property
    def start_up_s(self) -> float:
        """Until the first epoch began, as far as the later ones tell."""
        return max(0.0, self._ends[0][1] - self._start - self.epoch_s)


def train_trial(
    folder: Path,
    dataset: Dataset,
    options: TrainOptions,
    *,
    seed: int,
    listen: Listener | None = None,
    task: TrainingTask | None = None,
) -> TrialResult:
    """Train one model, or read the outcome where that is done.

    Writes trial.json, predictions.csv (of val), metrics.jsonl and the checkpoint into `folder`.

    Args:
        folder: of the trial; what an interrupted training left there is gone on with.
        dataset: train and val.
        options: of the training.
        seed: of everything random.
        listen: gets each epoch's record; what it raises ends the training.
        task: what is learnt beside the labels; None for those alone.

    Raises:
        Interrupted: a signal came; the state is saved.
        StillroomError: the training failed.
    """
    assert not dataset.of_split("test"), "a sweep was handed test images"
    key = _key(dataset, options, seed, task)
    if (outcome := read_outcome(folder, key)) is not None:
        return outcome
    state = folder / STATE
    state.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch(listen)
    trained = fit_model(dataset, options, task, seed=seed, out=state, callbacks=[OnEpoch(watch)])
    model = trained.model.cpu().to(memory_format=torch.contiguous_format)  # as it will be loaded
    predictions = predict_val(model, dataset, trained.card.preprocess)
    figures = evaluate(predictions)
    logs = [(state / f".{phase}" / METRICS).read_bytes() for phase in trained.phases]
    (folder / METRICS).write_bytes(b"".join(logs))
    write_predictions(folder / PREDICTIONS, predictions)
    save_checkpoint(folder, model, trained.card)
    outcome = TrialResult(
        **{name: figures[name] for name in ("n", "hits", "top1", "top1_low", "top1_high", "loss")},
        parameters=trained.card.parameters,
        flops=trained.card.flops,
        train_photos=len(dataset.of_split("train")),
        epochs=sum(log.count(b"\n") for log in logs),
        epoch_s=round(watch.epoch_s, 3),
        wall_s=round(watch.wall_s, 2),
    )
    value = {"key": key, "seed": seed, "options": asdict(options), "outcome": asdict(outcome)}
    # The last file: without it the trial is not done.
    write_atomic(folder / OUTCOME, canonical_json(value))
    shutil.rmtree(state)
    return outcome


def abandon_trial(folder: Path) -> None:
    """Keep the log of a training that was given up; remove its state."""
    logs = sorted((folder / STATE).glob(f".*/{METRICS}"), key=lambda path: path.stat().st_mtime)
    if logs:
        (folder / METRICS).write_bytes(b"".join(log.read_bytes() for log in logs))
    shutil.rmtree(folder / STATE, ignore_errors=True)


def predict_val(model: ImageClassifier, dataset: Dataset, spec: PreprocessSpec) -> Predictions:
    """A model's answers on the validation images, through the serving preprocess."""
    photos = dataset.of_split("val")
    logits = predict_logits(model, pixels_of(dataset.root, photos, spec))
    return Predictions(photos, dataset.labels, logits)


def read_outcome(folder: Path, key: str | None = None) -> TrialResult | None:
    """The outcome of a finished trial; None where it is not done, or done with another key."""
    try:
        value = json.loads((folder / OUTCOME).read_bytes())
        outcome = TrialResult(**value["outcome"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return outcome if key in (None, value["key"]) else None


def _key(dataset: Dataset, options: TrainOptions, seed: int, task: TrainingTask | None) -> str:
    splits = [[photo.path, photo.label, photo.split] for photo in dataset.photos]
    parts = [dataset_digest(dataset.photos), splits, asdict(options), seed]
    if task is not None:
        parts.append(dict(task.lineage))
    return digest_of_json(parts)


def compare_trials(first: Path, second: Path) -> Paired:
    """Compare two trial folders on the val images."""
    return pair(*(read_predictions(folder / PREDICTIONS) for folder in (first, second)))

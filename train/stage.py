"""The training stages, from options to files: what `stillroom run` calls for every model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serve.contract.digest import canonical_json
from serve.contract.preprocess import PreprocessSpec
from train.augment import random_view
from train.batches import PhotoStore, TrainingViews, View, pixels_of
from train.checkpoint import ModelCard, save_checkpoint
from train.evaluate import Predictions, evaluate, predict_logits, validator, write_predictions
from train.freeze import FreezePolicy, HeadOnly, TrainAll
from train.loop import METRICS, Plan, Scores, fit
from train.models import PhotoClassifier, build_model, check_size
from train.objective import CrossEntropy, Objective
from train.options import TrainOptions
from train.photos import Photo, dataset_digest, labels_of, read_index
from train.pretrained import load_pretrained
from train.seed import derive_seed

__all__ = [
    "Dataset",
    "finish",
    "pick_device",
    "plan_of",
    "train_model",
    "train_teacher",
    "views_of",
]


@dataclass(frozen=True)
class Dataset:
    """The photographs of a run.

    Args:
        root: the folder that the paths are relative to.
        photos: with labels and splits.
        cache_mib: memory for decoded training photographs.
    """

    root: Path
    photos: list[Photo]
    cache_mib: int = 2048

    @classmethod
    def open(cls, root: Path, index: Path, cache_mib: int) -> Dataset:
        """Read index.csv as the audit wrote it."""
        return cls(root, read_index(index), cache_mib)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return labels_of(self.photos)

    def of_split(self, split: str) -> list[Photo]:
        """The photographs of one split."""
        return [photo for photo in self.photos if photo.split == split]

    def targets(self, split: str) -> NDArray[np.int64]:
        """(N,) class numbers of one split."""
        labels = self.labels
        return np.array([labels.index(photo.label) for photo in self.of_split(split)])


def train_teacher(dataset: Dataset, options: TrainOptions, *, seed: int, out: Path) -> Scores:
    """Train a model on its labels: the classifier first where `head_epochs` says so, then all.

    Writes checkpoint.safetensors, checkpoint.json, metrics.jsonl, predictions.csv and
    evaluation.json into `out`.

    Returns:
        Headline metrics.
    """
    return train_model(dataset, options, CrossEntropy(options.label_smoothing), seed=seed, out=out)


def train_model(
    dataset: Dataset, options: TrainOptions, objective: Objective, *, seed: int, out: Path
) -> Scores:
    """As `train_teacher`, with any objective (distillation passes its own)."""
    torch.manual_seed(derive_seed(seed, "weights"))
    model = build_model(
        options.arch,
        len(dataset.labels),
        size_px=options.eval_size_px,
        drop_rate=options.drop_rate,
    )
    check_size(model, options.train_size_px)
    load_pretrained(model, options.weights)
    device = pick_device()
    # On CPUs the layout made no difference for EfficientNets and cost MobileNetV3 a quarter.
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    model.to(device).to(memory_format=layout)
    spec = PreprocessSpec(options.eval_size_px, options.crop_pct)
    views = views_of(dataset, options, seed)
    validate = validator(
        pixels_of(dataset.root, dataset.of_split("val"), spec), dataset.targets("val")
    )
    phases: list[tuple[str, FreezePolicy, Plan, Objective]] = []
    if options.head_epochs:
        plan = plan_of(options, seed, epochs=options.head_epochs, lr=options.head_lr)
        phases.append(("head", HeadOnly(), plan, CrossEntropy(options.label_smoothing)))
    phases.append(("all", TrainAll(), plan_of(options, seed), objective))
    scores: Scores = {}
    for name, policy, plan, phase_objective in phases:
        scores = fit(
            name, model, phase_objective, policy, views, plan=plan, validate=validate, folder=out
        )
    card = ModelCard.of(
        model,
        labels=dataset.labels,
        preprocess=spec,
        train_size_px=options.train_size_px,
        dataset_digest=dataset_digest(dataset.photos),
    )
    phase_names = [name for name, *_ in phases]
    return finish(dataset, model, card, phases=phase_names, out=out, extra=scores)


def finish(
    dataset: Dataset,
    model: PhotoClassifier,
    card: ModelCard,
    *,
    phases: list[str],
    out: Path,
    extra: Scores,
) -> Scores:
    """Write a trained model's files and return its headline metrics.

    Args:
        dataset: its val and test photographs are predicted through the serving preprocess.
        model: trained.
        card: of the model.
        phases: whose logs are joined into metrics.jsonl.
        out: the stage's folder.
        extra: metrics of the training, kept in evaluation.json.
    """
    model = model.cpu().to(memory_format=torch.contiguous_format)  # as it will be loaded
    photos = dataset.of_split("val") + dataset.of_split("test")
    logits = predict_logits(model, pixels_of(dataset.root, photos, card.preprocess))
    predictions = Predictions(photos, card.labels, logits)
    save_checkpoint(out, model, card)
    write_predictions(out / "predictions.csv", predictions)
    evaluation: dict[str, Any] = {
        split: evaluate(predictions.of_split(split)) for split in ("val", "test")
    }
    (out / "evaluation.json").write_bytes(canonical_json({**evaluation, "training": extra}))
    logs = [(out / f".{phase}" / METRICS).read_bytes() for phase in phases]
    (out / METRICS).write_bytes(b"".join(logs))
    test = evaluation["test"]
    return {
        "test_top1": test["top1"],
        "test_top1_low": test["top1_low"],
        "test_top1_high": test["top1_high"],
        "val_top1": evaluation["val"]["top1"],
        "parameters": card.parameters,
        "flops": card.flops,
    }


def views_of(dataset: Dataset, options: TrainOptions, seed: int) -> TrainingViews:
    """Random views of the training photographs, at the training size."""
    size_px, augment = options.train_size_px, options.augment
    view: View = lambda image, rng: random_view(image, size_px, augment, rng)  # noqa: E731
    # Twice the view's side leaves the smallest usual crop with no fewer pixels than the view.
    return build_views(dataset, view, keep_px=2 * size_px, seed=seed)


def build_views(
    dataset: Dataset, view: Callable[..., NDArray[np.uint8]], *, keep_px: int, seed: int
) -> TrainingViews:
    """Views of the training photographs by any function of (image, generator)."""
    photos = dataset.of_split("train")
    store = PhotoStore(dataset.root, photos, keep_px=keep_px, cache_mib=dataset.cache_mib)
    return TrainingViews(store, photos, dataset.labels, view, seed)


def plan_of(
    options: TrainOptions, seed: int, *, epochs: int | None = None, lr: float | None = None
) -> Plan:
    """The schedule that the options describe."""
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() else "fp32"
    return Plan(
        epochs=epochs or options.epochs,
        batch_size=options.batch_size,
        lr=lr or options.lr,
        optimizer=options.optimizer,
        min_lr=options.min_lr,
        warmup_epochs=options.warmup_epochs,
        weight_decay=options.weight_decay,
        ema_decay=options.ema_decay,
        clip_norm=options.clip_norm,
        precision=precision,
        workers=options.workers,
        seed=seed,
    )


def pick_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

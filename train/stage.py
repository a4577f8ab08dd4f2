"""The training stage, from options to files: what `stillroom run` calls for every model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from serve.contract.digest import canonical_json
from train.data.dataset import Dataset
from train.engine.callbacks import Callback
from train.engine.loop import Scores
from train.engine.throughput import TIMINGS
from train.engine.trainer import METRICS
from train.engine.world import current_world
from train.evaluation import Predictions, evaluate, predict_logits, write_predictions
from train.fitting import Trained, fit_model, prepare_model, views_of
from train.loader.views import pixels_of
from train.losses.objective import TrainingTask
from train.models.checkpoint import ModelCard, save_checkpoint
from train.models.classifier import ImageClassifier
from train.options import TrainOptions

__all__ = [
    "Dataset",
    "Trained",
    "finish",
    "fit_model",
    "prepare_model",
    "train_model",
    "train_teacher",
    "views_of",
]


def train_teacher(
    dataset: Dataset,
    options: TrainOptions,
    *,
    seed: int,
    out: Path,
    callbacks: Sequence[Callback] = (),
) -> Scores:
    """Train a model on its labels: the classifier first where `head_epochs` says so, then all.

    Writes checkpoint.safetensors, checkpoint.json, metrics.jsonl, predictions.csv and
    evaluation.json into `out`.

    Of several ranks that call this together, the first alone writes.

    Returns:
        Headline metrics; nothing on ranks that do not write.
    """
    return train_model(dataset, options, None, seed=seed, out=out, callbacks=callbacks)


def train_model(
    dataset: Dataset,
    options: TrainOptions,
    task: TrainingTask | None,
    *,
    seed: int,
    out: Path,
    callbacks: Sequence[Callback] = (),
) -> Scores:
    """As `train_teacher`, with any task (distillation passes its own)."""
    trained = fit_model(dataset, options, task, seed=seed, out=out, callbacks=callbacks)
    if not current_world().is_writer:
        return {}
    extra: dict[str, Any] = {"kept": trained.kept, "candidates": trained.candidates}
    if current_world().world_size > 1:
        extra["ranks"] = current_world().world_size
    return finish(dataset, trained.model, trained.card, phases=trained.phases, out=out, extra=extra)


def finish(
    dataset: Dataset,
    model: ImageClassifier,
    card: ModelCard,
    *,
    phases: list[str],
    out: Path,
    extra: dict[str, Any],
) -> Scores:
    """Write a trained model's files and return its headline metrics.

    Args:
        dataset: its val and test images are predicted through the serving preprocess.
        model: trained.
        card: of the model.
        phases: whose logs are joined into metrics.jsonl.
        out: the stage's folder.
        extra: of the training, kept in evaluation.json.
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
    timings = [path.read_bytes() for p in phases if (path := out / f".{p}" / TIMINGS).exists()]
    (out / TIMINGS).write_bytes(b"".join(timings))
    test = evaluation["test"]
    return {
        "test_top1": test["top1"],
        "test_top1_low": test["top1_low"],
        "test_top1_high": test["top1_high"],
        "val_top1": evaluation["val"]["top1"],
        "parameters": card.parameters,
        "flops": card.flops,
    }

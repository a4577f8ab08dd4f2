"""Trainings of a toy model that tests stop, poison and compare."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from serve.contract.preprocess import PreprocessSpec
from tests.train.toy import FAST, SIZE_PX, toy_model, toy_views
from train.engine.callbacks import OnEpoch
from train.engine.loop import Fitted, Phase, Validate, fit
from train.engine.plan import PhaseOptions
from train.engine.world import shard_of_rank
from train.evaluation import validator
from train.loader.views import pixels_of
from train.losses.objective import CrossEntropy, Objective, StepOutput
from train.models.classifier import ImageClassifier
from train.models.freeze import FreezePolicy, TrainAll
from train.stage import Dataset

PLAN = PhaseOptions(
    epochs=3,
    batch_size=12,
    lr=3e-3,
    warmup_epochs=0.5,
    weight_decay=0.02,
    ema_decay=0.9,
    clip_norm=5.0,
    sizes_px=(SIZE_PX,),
    size_px=SIZE_PX,
    seed=3,
)
PER_EPOCH = 3  # 39 training images in batches of 12


class SignalAt:
    """Cross-entropy that sends this process a signal during its n-th step."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self._left, self._number = step, number

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)
        return CrossEntropy()(model, images, labels)


class Poisoned:
    """Cross-entropy that becomes NaN at the n-th step."""

    def __init__(self, step: int) -> None:
        self._left = step

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        self._left -= 1
        output = CrossEntropy()(model, images, labels)
        return output if self._left > 0 else replace(output, loss=output.loss * math.nan)


def validate_of(dataset: Dataset) -> Validate:
    """Scores on the val split."""
    photos = shard_of_rank(dataset.of_split("val"))
    pixels = pixels_of(dataset.root, photos, PreprocessSpec(SIZE_PX, 1.0))
    return validator(pixels, dataset.targets("val"))


def fit_toy(
    dataset: Dataset,
    folder: Path,
    validate: Validate,
    *,
    plan: PhaseOptions = PLAN,
    objective: Objective | None = None,
    policy: FreezePolicy | None = None,
    listen: Callable[[dict[str, Any]], None] | None = None,
    arch: str = FAST.arch,
) -> tuple[ImageClassifier, Fitted]:
    """A new process would build the model again, from the same seed, and call `fit` again."""
    model = toy_model(arch=arch).to(memory_format=torch.channels_last)
    folder.mkdir(exist_ok=True)
    phase = Phase("all", objective or CrossEntropy(), policy or TrainAll(), plan)
    views: Any = toy_views(dataset)
    fitted = fit(
        phase,
        model,
        views,
        validate=validate,
        folder=folder,
        callbacks=[OnEpoch(listen)] if listen else (),
    )
    return model, fitted

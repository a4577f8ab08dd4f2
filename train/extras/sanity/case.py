"""What the sanity checks look at: a model before its first step, and one batch of images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from serve.contract.preprocess import PreprocessSpec
from train.data.dataset import Dataset
from train.data.images import LabelledImage
from train.engine.seed import generator
from train.evaluation import predict_logits
from train.extras.sanity.overfit import OverfitResult, overfit_one_batch
from train.fitting import prepare_model, views_of
from train.loader.sampler import ViewKey
from train.loader.views import Views, build_loader, pixels_of
from train.models.classifier import ImageClassifier
from train.models.freeze import FreezePolicy, TrainAll
from train.options import TrainOptions

__all__ = ["SanityCase", "sanity_case_of"]

BATCH = 16  # images: enough for batch norm, few enough for a CPU
STEPS = 60  # to overfit one batch
REPEATS = 4  # random views of each image, whose mean colour is compared


@dataclass(frozen=True)
class SanityCase:
    """A training, before it is run.

    Args:
        build: makes the model, from the same seed each time.
        views: of the training images, in the order of `photos`.
        photos: of the train split.
        names: of the classes, in the order of the logits.
        pixels: what the server would see of the batch's images, (N, S, S, 3) uint8.
        positions: of the batch's images in `photos`.
        options: of the training.
        policy: what learns.
    """

    build: Callable[[], ImageClassifier]
    views: Views
    photos: list[LabelledImage]
    names: tuple[str, ...]
    pixels: NDArray[np.uint8]
    positions: list[int]
    options: TrainOptions
    policy: FreezePolicy

    @cached_property
    def model(self) -> ImageClassifier:
        """In the mode it trains in; never changed: checks that train take a `fresh` one."""
        return self.rebuilt()

    @cached_property
    def images(self) -> Tensor:
        """(N, S, S, 3) uint8: one random view of each of the batch's images."""
        return self.batch()[0]

    @cached_property
    def labels(self) -> Tensor:
        """(N,) class numbers of the batch."""
        return self.batch()[1]

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """(N, K) of the pixels, in evaluation mode."""
        return predict_logits(self.model, self.pixels)

    @cached_property
    def reached(self) -> Tensor:
        """(N, 3, S, S): what the first layer of the network gets of the images."""
        found: list[Tensor] = []

        def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            found.extend(inputs[:1])

        model = self.fresh()
        parts = [module for module in model.modules() if module is not model]
        handles = [part.register_forward_pre_hook(note) for part in parts]
        with torch.no_grad():
            model(self.images.to(model.device))
        for handle in handles:
            handle.remove()
        return found[0].float().cpu()

    @cached_property
    def seen_colours(self) -> NDArray[np.float64]:
        """(N, 3) mean RGB of some random views of each image."""
        views = [self.batch(epoch)[0].numpy() for epoch in range(REPEATS)]
        means: NDArray[np.float64] = np.mean([view.mean((1, 2)) for view in views], axis=0)
        return means

    @cached_property
    def memorised(self) -> OverfitResult:
        """The batch learnt at the training's own rate."""
        return self.overfit_one_batch(self.options.lr)

    @property
    def knows_classes(self) -> bool:
        """Whether the weights may be those of a classifier of these classes."""
        return self.options.weights.endswith(".safetensors")

    def batch(self, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Views and class numbers of the batch's images, through the training's loader."""
        size_px = self.options.train_size_px
        keys = [ViewKey(epoch, position, 0, size_px) for position in self.positions]
        batch = next(iter(build_loader(self.views, [keys], workers=0)))
        images, labels, _ = batch.to(torch.device("cpu"))
        return images, labels

    def rebuilt(self) -> ImageClassifier:
        """The model built anew."""
        model = self.build()
        self.policy.freeze(model)
        self.policy.set_mode(model)
        return model

    def fresh(self) -> ImageClassifier:
        """A copy of the model, to be changed."""
        return copy.deepcopy(self.model)

    def first_loss(self, model: ImageClassifier) -> float:
        """Cross-entropy of the batch, in nats; moves the model's statistics."""
        torch.manual_seed(0)  # dropout
        with torch.no_grad():
            logits = model(self.images.to(model.device)).float()
            return float(F.cross_entropy(logits, self.labels.to(model.device)))

    def overfit_one_batch(self, lr: float) -> OverfitResult:
        """Let a copy overfit the batch, unaugmented."""
        model = self.fresh()
        images = torch.from_numpy(self.pixels).to(model.device)
        labels, optimizer = self.labels.to(model.device), self.options.optimizer
        return overfit_one_batch(model, images, labels, optimizer=optimizer, lr=lr, steps=STEPS)


def sanity_case_of(dataset: Dataset, options: TrainOptions, seed: int) -> SanityCase:
    """A training as `train.fitting` would begin it, and a batch of as many classes as fit."""
    photos = dataset.of_split("train")
    size = min(BATCH, options.batch_size, len(photos))
    positions = _positions(photos, size, seed)
    spec = PreprocessSpec(options.train_size_px, options.crop_pct)
    uncached = Dataset(Path(dataset.root), dataset.photos, 0)  # a batch is all that is decoded
    return SanityCase(
        build=lambda: prepare_model(dataset, options, seed),
        views=views_of(uncached, options, seed),
        photos=photos,
        names=dataset.labels,
        pixels=pixels_of(dataset.root, [photos[i] for i in positions], spec),
        positions=positions,
        options=options,
        policy=TrainAll(options.freeze_stages),
    )


def _positions(photos: list[LabelledImage], size: int, seed: int) -> list[int]:
    """Random images, the classes in turn."""
    turns: dict[str, int] = {}
    ranked = []
    for position in map(int, generator(seed, "sanity").permutation(len(photos))):
        label = photos[position].label
        turns[label] = turns.get(label, 0) + 1
        ranked.append((turns[label], position))
    ranked.sort(key=lambda pair: pair[0])
    return [position for _, position in ranked[:size]]

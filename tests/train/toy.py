"""Small images and models for tests: three classes that a small network tells apart."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

from serve.contract.preprocess import PreprocessSpec
from train.augment.random_view import random_view
from train.data.audit.dataset_audit import audit_images
from train.data.images import LabelledImage, dataset_digest
from train.loader.views import ImageStore, TrainingViews
from train.models.checkpoint import ModelCard, save_checkpoint
from train.models.classifier import ImageClassifier, build_model
from train.options import AugmentOptions, DataOptions, TrainOptions
from train.stage import Dataset

torch.set_num_threads(1)  # tests share their cores; spinning OpenMP threads would stall

PATIENT = settings(deadline=None, max_examples=60)  # a busy machine is not a failure

CLASSES = ("aster", "bell", "clover")
SIZE_PX = 32
FAST = TrainOptions(
    arch="test_efficientnet",
    train_size_px=SIZE_PX,
    epochs=2,
    batch_size=12,
    warmup_epochs=0.5,
    ema_decay=0.9,
    workers=0,
    lr=3e-3,
)


def draw(kind: int, seed: int) -> Image.Image:
    """A picture of 24-40 px: the class sets the direction of the stripes and the tint."""
    rng = np.random.default_rng((kind, seed))
    height, width = rng.integers(24, 41, 2)
    y, x = np.mgrid[0:height, 0:width]
    phase = (x, y, x + y)[kind % 3] * rng.uniform(0.5, 0.7) + rng.uniform(0, 6)
    tint = np.roll([70.0, 20.0, -40.0], kind)
    noise = rng.normal(0, 12, (height, width, 3))
    levels = 120 + 60 * np.sin(phase)[..., None] + tint + noise
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def write_photos(
    root: Path, *, count: int = 24, classes: tuple[str, ...] = CLASSES, first: int = 0
) -> Path:
    """Write `count` JPEG files for each class into `root/<class>/`."""
    for kind, label in enumerate(classes):
        (root / label).mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + count):
            draw(kind, seed).save(root / label / f"{seed:03d}.jpg", quality=92)
    return root


def open_dataset(root: Path, out: Path, *, options: DataOptions | None = None) -> Dataset:
    """Audit a folder of images and open it."""
    out.mkdir(parents=True, exist_ok=True)
    audit_images(root, options or DataOptions(0.2, 0.25), seed=0, out=out)
    return Dataset.open(root, out / "index.csv", 64)


def toy_dataset(folder: Path, *, count: int = 24) -> Dataset:
    """Write, audit and open a dataset of three classes."""
    return open_dataset(write_photos(folder / "photos", count=count), folder / "data")


def toy_photos(counts: dict[str, int]) -> list[LabelledImage]:
    """Images that are on no disk, each with a digest of its own."""
    numbers = itertools.count()
    return [
        LabelledImage(f"{label}/{i}.jpg", label, "", f"{next(numbers):064x}", 30, 30)
        for label, count in counts.items()
        for i in range(count)
    ]


def toy_views(dataset: Dataset, *, cache_mib: int = 64, seed: int = 3) -> TrainingViews:
    """Random views of the training images; their side is the key's."""
    photos = dataset.of_split("train")
    store = ImageStore(dataset.root, photos, keep_px=2 * SIZE_PX, cache_mib=cache_mib)
    augment = AugmentOptions()
    return TrainingViews(
        store,
        photos,
        dataset.labels,
        lambda image, size_px, rng: random_view(image, size_px, augment, rng),
        seed,
    )


def toy_model(seed: int = 0, *, classes: int = 3, arch: str = FAST.arch) -> ImageClassifier:
    """A randomly initialised model in evaluation mode; equal seeds give equal weights."""
    torch.manual_seed(seed)
    return build_model(arch, classes, size_px=SIZE_PX).eval()


def lively(model: ImageClassifier, seed: int = 1) -> ImageClassifier:
    """Make an untrained model's predictions differ from image to image, as a trained one's do."""
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (32, SIZE_PX, SIZE_PX, 3), generator=random)
    model.train()
    for _ in range(30):
        model(pixels.to(torch.uint8))  # fills the statistics of batch norm
    model.eval()
    head = model.backbone.get_classifier()
    with torch.no_grad():
        head.weight.normal_(0, 1, generator=random)
    return model


def card_of(dataset: Dataset, model: ImageClassifier, size_px: int = SIZE_PX) -> ModelCard:
    """The card of a model of this dataset."""
    return ModelCard.of(
        model,
        labels=dataset.labels,
        preprocess=PreprocessSpec(size_px, 1.0),
        train_size_px=size_px,
        dataset_digest=dataset_digest(dataset.photos),
    )


def write_checkpoint(folder: Path, dataset: Dataset, model: ImageClassifier) -> ModelCard:
    """Save a model of this dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    card = card_of(dataset, model)
    save_checkpoint(folder, model, card)
    return card


def state_of(model: torch.nn.Module) -> dict[str, NDArray[np.generic]]:
    """Copies of all tensors by name."""
    return {name: tensor.clone().numpy() for name, tensor in model.state_dict().items()}


def same_tensors(one: dict[str, NDArray[np.generic]], two: dict[str, NDArray[np.generic]]) -> bool:
    """Whether all tensors are equal bit for bit."""
    return one.keys() == two.keys() and all(
        one[name].tobytes() == two[name].tobytes() for name in one
    )


def fast(**changes: object) -> TrainOptions:
    """Options of a training that takes about a second."""
    return replace(FAST, **changes)  # type: ignore[arg-type]

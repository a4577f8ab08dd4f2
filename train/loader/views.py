"""Training views by key, loaded in the order that `train.loader.sampler` gives."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from serve.contract.preprocess import NO_LIMITS, PreprocessSpec, crop_and_resize, decode
from serve.contract.signals import ENDING
from train.augment.color_jitter import recolour_batch
from train.data.image_bytes import containers_of, read_bytes
from train.data.images import LabelledImage
from train.engine.seed import generator
from train.loader.pixel_cache import open_pixels, read_image
from train.loader.sampler import ViewKey
from train.losses.targets import UNLABELLED

__all__ = [
    "FixedViews",
    "ImageStore",
    "TrainingViews",
    "View",
    "Views",
    "build_loader",
    "pixels_of",
]

SET_SIGNAL_OF_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Colours = NDArray[np.float32]  # (3, 4), see `train.augment.color_jitter`
# Of an image at a side in px; with colours where they are left to the device.
View = Callable[[Pixels, int, np.random.Generator], Pixels | tuple[Pixels, Colours]]


class Batch(NamedTuple):
    """What a training step gets.

    Args:
        images: (N, size, size, 3) uint8.
        labels: (N,) int64.
        colours: (N, 3, 4) float32, to be applied to the images on the device; None: nothing is.
    """

    images: Tensor
    labels: Tensor
    colours: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """On the device, where the colours of the images become what they shall be."""
        images = self.images.to(device, non_blocking=True)
        labels = self.labels.to(device, non_blocking=True)
        if self.colours is not None:
            images = recolour_batch(images, self.colours.to(device, non_blocking=True))
        return Batch(images, labels)


Sample = tuple[Pixels, int, Colours | None]


class ImageStore:
    """Decoded images by position: from the cache where they fit, else decoded when asked for.

    Args:
        root: the dataset's folder.
        photos: whose `path` is below it.
        keep_px: images are shrunk so that the shorter side is at most this; 0 keeps all.
        cache_mib: for decoded images, on disk.
    """

    def __init__(
        self, root: Path, photos: list[LabelledImage], *, keep_px: int, cache_mib: int
    ) -> None:
        self._root, self._photos, self._keep_px = root, photos, keep_px
        self._kept = open_pixels(root, photos, keep_px=keep_px, limit_mib=cache_mib)
        self.shards = containers_of(root, photos)

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, position: int) -> Pixels:
        if self._kept is not None:
            return self._kept[position]
        photo = self._photos[position]
        return np.asarray(read_image(self._root / photo.path, photo, self._keep_px))


class TrainingViews(Dataset[Sample]):
    """View `key` of an image: its randomness depends on the seed and the key alone.

    Args:
        store: of the images.
        photos: in the store's order; one with an empty label is unlabelled.
        labels: class names in the order of the logits.
        view: draws a view.
        seed: of all views.
    """

    def __init__(
        self,
        store: ImageStore,
        photos: list[LabelledImage],
        labels: tuple[str, ...],
        view: View,
        seed: int,
    ) -> None:
        self._store, self._view, self._seed = store, view, seed
        self.shards = store.shards
        numbers = {"": UNLABELLED, **{label: number for number, label in enumerate(labels)}}
        self.targets = np.array([numbers[photo.label] for photo in photos], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, key: ViewKey) -> Sample:
        parts = (key.epoch, key.position, *([key.repeat] if key.repeat else []))
        rng = generator(self._seed, "view", *parts)
        view = self._view(self._store[key.position], key.size_px, rng)
        pixels, colours = view if isinstance(view, tuple) else (view, None)
        return pixels, int(self.targets[key.position]), colours


class FixedViews(Dataset[Sample]):
    """The same view of an image in every epoch, computed once.

    Args:
        pixels: (N, size, size, 3) uint8.
        targets: (N,) class numbers.
    """

    def __init__(self, pixels: NDArray[np.uint8], targets: NDArray[np.int64]) -> None:
        self._pixels, self.targets = pixels, targets
        self.shards: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, key: ViewKey) -> Sample:
        return self._pixels[key.position], int(self.targets[key.position]), None


class Views(Protocol):
    """What a training sees: samples by key, and the class of each image by position."""

    targets: NDArray[np.int64]
    shards: NDArray[np.int64] | None  # that each lies in, as `train.loader.sampler.BatchSampler`

    def __len__(self) -> int: ...

    def __getitem__(self, key: ViewKey, /) -> Any:
        """A view (size, size, 3) uint8, and its label."""


def build_loader(
    views: Views,
    batches: Iterable[list[ViewKey]],
    *,
    workers: int,
    poll_s: float = 0.0,
    polite: bool = False,
) -> Iterable[Batch]:
    """One loader for a whole training: it yields the batches in their order.

    Args:
        views: of the images.
        batches: keys of each batch.
        workers: loader processes; 0 loads in this one.
        poll_s: without a batch, after which the workers are said to be late; 0: no limit.
        polite: the workers run only where a core would be idle.

    Yields:
        the batches; their labels may be rows of `train.loader.soft_targets`.
    """
    return DataLoader(
        cast("Dataset[Any]", views),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
        timeout=poll_s if workers else 0,
        worker_init_fn=_be_polite if polite else _follow_the_parent,
    )


def pixels_of(root: Path, photos: list[LabelledImage], spec: PreprocessSpec) -> NDArray[np.uint8]:
    """What the model sees of each image at evaluation: the serving preprocess.

    Returns:
        (N, size_px, size_px, 3) uint8.
    """

    def load(photo: LabelledImage) -> NDArray[np.uint8]:
        image = decode(read_bytes(root / photo.path), spec.background, NO_LIMITS)
        return np.asarray(crop_and_resize(image, spec))

    if not photos:
        return np.zeros((0, spec.size_px, spec.size_px, 3), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(load, photos)))


def _follow_the_parent(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the trainer saves first, then ends its loader.

    A trainer that is killed can end nobody: the kernel ends its workers for it.
    """
    del worker
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_SIGNAL_OF_PARENTS_DEATH, signal.SIGKILL)


def _be_polite(worker: int) -> None:
    """Where the training computes on the same cores, one that it lost makes all of them wait."""
    _follow_the_parent(worker)
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):  # where it is forbidden, the workers are as any others
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _collate(samples: list[Sample]) -> Batch:
    images = torch.from_numpy(np.stack([image for image, _, _ in samples]))
    labels = torch.from_numpy(np.array([label for _, label, _ in samples]))
    colours = [colours for _, _, colours in samples if colours is not None]
    return Batch(images, labels, torch.from_numpy(np.stack(colours)) if colours else None)

"""The plan of one phase: its options in the loop's units, and the parts that they ask for."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from serve.contract.errors import DatasetError
from train.augment.mixup import Mix
from train.engine.schedule import Plateau, Schedule
from train.engine.signals import StopFlag, stop_on_signal
from train.engine.throughput import TIMINGS, ThroughputMeter
from train.engine.world import World, shard_of_rank
from train.loader.dataloader import feed
from train.loader.sampler import BatchSampler, sizes_px, some_batches
from train.loader.views import Batch, Views, build_loader
from train.models.classifier import ImageClassifier
from train.models.param_groups import build_optimizer
from train.options import TrainOptions

__all__ = ["PhaseOptions", "phase_options"]


@dataclass(frozen=True)
class PhaseOptions:
    """How a phase goes, in the units of `train.options.TrainOptions`."""

    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "adamw"
    min_lr: float = 1e-5
    schedule: str = "cosine"
    cycles: int = 1
    decay_epochs: float = 3.0
    decay_factor: float = 0.1
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    layer_decay: float = 1.0
    l1: float = 0.0
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    swa_epochs: int = 0
    swa_lr: float = 0.0
    sync_bn: bool = False
    precise_bn_images: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_off_epochs: int = 0
    balance_limit: float = 0.0
    sizes_px: tuple[int, ...] = (0,)
    size_px: int = 0
    precision: str = "fp32"
    accumulate: int = 1
    compile: bool = False
    deterministic: bool = False
    workers: int = 0
    save_minutes: float = 10.0
    seed: int = 0

    def schedule_of(self, per_epoch: int) -> Schedule:
        """The learning rate by step, where an epoch has `per_epoch` steps."""
        total = per_epoch * self.epochs
        holds = bool(self.swa_epochs and self.swa_lr)
        return Schedule(
            kind=self.schedule,
            peak=self.lr,
            floor=self.min_lr,
            total=total,
            warmup=min(round(self.warmup_epochs * per_epoch), total // 4),
            cycles=self.cycles,
            decay_steps=max(1, round(self.decay_epochs * per_epoch)),
            decay_factor=self.decay_factor,
            hold_from=total - self.swa_epochs * per_epoch if holds else None,
            hold=self.swa_lr,
        )

    def plateau(self) -> Plateau:
        """Watches the validation loss for the schedule `plateau`."""
        return Plateau(max(1, round(self.decay_epochs)))

    def optimizer_of(self, model: ImageClassifier) -> torch.optim.Optimizer:
        """The optimiser of what learns in a model."""
        return build_optimizer(
            model,
            name=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
        )

    def meter_in(self, folder: Path) -> ThroughputMeter:
        """Measures images a second and memory; its lines are beside the metrics in `folder`."""
        return ThroughputMeter(folder / TIMINGS)

    def stop_flag(self) -> AbstractContextManager[StopFlag]:
        """A flag that a signal raises while the block runs."""
        return stop_on_signal()

    def mix_of(self, classes: int) -> Mix:
        """Mixup and cutmix of batches of `classes` classes."""
        return Mix(classes, mixup=self.mixup, cutmix=self.cutmix)

    def sampler_of(self, views: Views) -> BatchSampler:
        """Which views come when, in all epochs.

        Raises:
            DatasetError: fewer images than one batch.
        """
        sampler = BatchSampler(
            views.targets,
            self.batch_size,
            self.epochs,
            self.seed,
            balance_limit=self.balance_limit,
            sizes_px=self.sizes_px,
            shards=views.shards,
        )
        if sampler.per_epoch == 0:
            raise DatasetError(
                f"{len(views)} training images are fewer than one batch of {self.batch_size}.",
                "Lower batch_size.",
            )
        return sampler

    def batches_of(
        self, views: Views, sampler: BatchSampler, done: int, world: World
    ) -> Generator[Batch, None, None]:
        """This rank's share of the batches after `done` steps; close it to end its workers."""
        left = sampler.starting_at(done).of_rank(world.rank, world.world_size)
        return feed(views, left, workers=self.workers)

    def unseen_batches(self, views: Views, world: World) -> Iterable[Batch]:
        """Views that the training did not see, for precise batch norm; this rank's share."""
        keys = some_batches(
            len(views),
            self.precise_bn_images,
            batch_size=self.batch_size // world.world_size,
            epoch=self.epochs,
            seed=self.seed,
            size_px=self.size_px,
        )
        return build_loader(views, shard_of_rank(keys), workers=0)


def phase_options(options: TrainOptions, seed: int) -> PhaseOptions:
    """The plan of the phase that trains all layers."""
    precision = options.precision
    if precision == "auto":
        precision = _half() if torch.cuda.is_available() else "fp32"
    augment = options.augment
    return PhaseOptions(
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        optimizer=options.optimizer,
        min_lr=options.min_lr,
        schedule=options.schedule,
        cycles=options.cycles,
        decay_epochs=options.decay_epochs,
        decay_factor=options.decay_factor,
        warmup_epochs=options.warmup_epochs,
        weight_decay=options.weight_decay,
        layer_decay=options.layer_decay,
        l1=options.l1,
        clip_norm=options.clip_norm,
        ema_decay=options.ema_decay,
        swa_epochs=options.swa_epochs,
        swa_lr=options.swa_lr,
        sync_bn=options.sync_bn,
        precise_bn_images=options.precise_bn_images,
        mixup=augment.mixup,
        cutmix=augment.cutmix,
        mix_off_epochs=augment.mix_off_epochs,
        balance_limit=options.balance_limit,
        sizes_px=sizes_px(options.train_size_px, augment.multi_scale),
        size_px=options.train_size_px,
        precision=precision,
        accumulate=options.accumulate,
        compile=options.compile,
        deterministic=options.deterministic,
        workers=options.workers,
        save_minutes=options.save_minutes,
        seed=seed,
    )


def _half() -> Literal["bf16", "fp16"]:
    """Of a GPU: bf16 needs no scaling, where the GPU computes with it."""
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"

"""The plan of one phase: `train.options.TrainOptions` as the loop needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from train.engine.schedule import Schedule
from train.loader.sampler import sizes_px
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

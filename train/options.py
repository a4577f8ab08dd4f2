"""What a recipe may say about data and training: frozen, flat, with a unit beside every number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["AugmentOptions", "DataOptions", "TrainOptions"]


@dataclass(frozen=True)
class DataOptions:
    """How the folder of photographs is read and split."""

    val_fraction: float = 0.15  # of each class; used where there is no val folder
    test_fraction: float = 0.2  # of each class; used where there is no test folder
    unreadable: Literal["error", "skip"] = "error"  # what to do with images that do not decode
    cache_mib: int = 2048  # decoded training photographs kept in memory, at most


@dataclass(frozen=True)
class AugmentOptions:
    """Random views of a training photograph."""

    min_scale: float = 0.35  # smallest crop, as a share of the photograph's area
    max_aspect: float = 1.33  # crops are between 1 : max_aspect and max_aspect : 1
    flip: float = 0.5  # probability of a left-right mirror
    rotate_deg: float = 0.0  # rotation drawn from +- this
    brightness: float = 0.2  # factor drawn from 1 +- this
    contrast: float = 0.2
    saturation: float = 0.2
    erase: float = 0.0  # probability of a grey rectangle over 2-20 % of the view

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"min_scale = {self.min_scale}: expected more than 0, at most 1")
        if self.max_aspect < 1:
            raise ValueError(f"max_aspect = {self.max_aspect}: expected 1 or more")
        for name in ("flip", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected 0 to 1")


@dataclass(frozen=True)
class TrainOptions:
    """One training: a model, a resolution, a schedule."""

    arch: str = "resnet18"  # any timm model name
    weights: str = "none"  # none | hub | package | a file of the architecture's own weights
    train_size_px: int = 128
    test_size_px: int = 0  # evaluation size; 0 = train_size_px
    crop_pct: float = 1.0  # evaluation: share of the shorter side that the centre crop keeps
    epochs: int = 10
    head_epochs: int = 0  # epochs of the new classifier alone, before the `epochs` of all layers
    head_lr: float = 1e-2  # peak learning rate of those
    batch_size: int = 64  # photographs a step
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd has Nesterov momentum 0.9
    lr: float = 1e-3  # peak, after warm-up
    min_lr: float = 1e-5  # floor of the cosine
    warmup_epochs: float = 1.0  # at most a quarter of all steps
    weight_decay: float = 0.02  # not on biases and norms
    label_smoothing: float = 0.0
    drop_rate: float = 0.0  # dropout before the classifier
    ema_decay: float = 0.999  # 0 = no moving average of the weights
    clip_norm: float = 5.0  # largest gradient norm; 0 = off
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 on a GPU, fp32 on a CPU
    workers: int = 1  # loader processes; 0 loads in the training process
    augment: AugmentOptions = field(default_factory=AugmentOptions)

    def __post_init__(self) -> None:
        for name in ("train_size_px", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected 1 or more")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct = {self.crop_pct}: expected more than 0, at most 1")
        if self.lr <= 0 or self.head_lr <= 0:
            raise ValueError(f"lr = {self.lr}, head_lr = {self.head_lr}: expected more than 0")
        for name in ("label_smoothing", "drop_rate", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected 0 to less than 1")

    @property
    def eval_size_px(self) -> int:
        """Side of the square that evaluation sees, in pixels."""
        return self.test_size_px or self.train_size_px

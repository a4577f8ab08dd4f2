"""What a recipe may say about distillation and FixRes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DistilOptions", "FixResOptions"]


@dataclass(frozen=True)
class DistilOptions:
    """How the student learns from the teacher."""

    kd_weight: float = 0.9  # share of the distillation loss; the labels get the rest
    temperature: float = 2.0  # softening of both outputs; 2-5 is usual

    def __post_init__(self) -> None:
        if not 0 <= self.kd_weight <= 1:
            raise ValueError(f"kd_weight = {self.kd_weight}: expected 0 to 1")
        if self.temperature <= 0:
            raise ValueError(f"temperature = {self.temperature}: expected more than 0")


@dataclass(frozen=True)
class FixResOptions:
    """Fine-tuning of the classifier and the last batch norm at the test resolution."""

    test_size_px: int = 160  # about 1.15-1.3 times the student's train_size_px
    crop_pct: float = 1.0  # share of the shorter side that the centre crop keeps
    epochs: int = 5
    lr: float = 1e-3
    batch_size: int = 64
    weight_decay: float = 1e-4
    norm: Literal["affine", "statistics"] = "affine"  # what of the last batch norm may change

    def __post_init__(self) -> None:
        for name in ("test_size_px", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected 1 or more")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct = {self.crop_pct}: expected more than 0, at most 1")
        if self.lr <= 0:
            raise ValueError(f"lr = {self.lr}: expected more than 0")

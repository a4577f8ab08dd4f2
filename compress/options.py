"""What a recipe may say about distillation and FixRes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from serve.contract.digest import sha256_of_file
from train.data.folder import find_unlabelled, fingerprint
from train.options import check_at_least, check_positive, check_within

__all__ = ["DistilOptions", "FixResOptions", "deciding_distil"]

CHECKPOINT = (
    "checkpoint.json",
    "checkpoint.safetensors",
)  # as train.models.checkpoint, which needs torch


@dataclass(frozen=True)
class DistilOptions:
    """How the student learns from the teacher."""

    kd_weight: float = 0.9  # share of the distillation loss; the labels get the rest
    temperature: float = 2.0  # softening of both outputs; 2-5 is usual
    more_teachers: tuple[str, ...] = ()  # checkpoint folders; averaged with the run's own teacher
    teacher_size_px: int = 0  # side of the views that the teachers see; 0 = the student's
    # online: the teachers see every view that the student sees. cached: they answer once for each
    # whole image, whatever is cropped of it later; cheaper and inferior, arXiv:2106.05237.
    teacher_logits: Literal["online", "cached"] = "online"
    unlabelled: str = ""  # folder of images without labels, for the distillation loss alone

    def __post_init__(self) -> None:
        if self.teacher_logits == "cached" and self.teacher_size_px:
            raise ValueError(
                f"teacher_size_px = {self.teacher_size_px}: cached teachers see no views; "
                "expected 0, or teacher_logits = online"
            )
        check_within(self, 0, 1, "kd_weight")
        check_at_least(self, 0, "teacher_size_px")
        check_positive(self, "temperature")


def deciding_distil(options: DistilOptions) -> dict[str, Any]:
    """The options that decide what a distillation ends with, as JSON.

    Teachers and images count by their bytes, for a path says nothing of what is there.
    """
    values = asdict(options)
    values["more_teachers"] = [_digests(Path(folder)) for folder in options.more_teachers]
    if options.unlabelled and (root := Path(options.unlabelled)).is_dir():
        values["unlabelled"] = f"sha256:{fingerprint(root, find_unlabelled(root))}"
    return values


def _digests(folder: Path) -> list[str]:
    files = [folder / name for name in CHECKPOINT]
    return [f"sha256:{sha256_of_file(f)}" if f.is_file() else f"missing:{f}" for f in files]


@dataclass(frozen=True)
class FixResOptions:
    """Fine-tuning of the classifier and the last batch norm at the test resolution."""

    test_size_px: int = 160  # about 1.15-1.3 times the student's train_size_px
    crop_pct: float = 1.0  # share of the shorter side that the centre crop keeps
    epochs: int = 5  # over the images at the test resolution
    lr: float = 1e-3  # peak learning rate
    batch_size: int = 64  # images a step
    weight_decay: float = 1e-4  # of the classifier
    norm: Literal["affine", "statistics"] = "affine"  # what of the last batch norm may change

    def __post_init__(self) -> None:
        check_at_least(self, 1, "test_size_px", "epochs", "batch_size")
        check_at_least(self, 0, "weight_decay")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct = {self.crop_pct}: expected more than 0, at most 1")
        check_positive(self, "lr")

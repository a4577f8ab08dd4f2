"""Distillation: the student imitates its teachers on the very same augmented views."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.teachers import mean_logits
from train.losses.label_loss import LabelLoss
from train.losses.objective import StepOutput
from train.losses.targets import class_numbers

__all__ = ["CachedDistillation", "DistilLoss", "Distillation", "kd_loss", "resized"]


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Distillation loss: KL(teacher || student) of softened outputs, times temperature squared.

    Args:
        student_logits: (N, K), raw.
        teacher_logits: (N, K), raw; treated as constant.
        temperature: > 0; 2-5 is usual.

    Returns:
        Scalar, mean over N. The square keeps the gradient's size as the temperature changes.

    Raises:
        ValueError: shapes differ, or temperature <= 0.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"Student logits {tuple(student_logits.shape)} and teacher logits "
            f"{tuple(teacher_logits.shape)} differ in shape."
        )
    if temperature <= 0:
        raise ValueError(f"temperature = {temperature}: expected more than 0.")
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def resized(images: Tensor, size_px: int) -> Tensor:
    """Views at another side, shrunk with antialiasing; the same tensor where the side is right.

    Args:
        images: (N, H, W, 3) in 0..255, uint8 or float.
        size_px: wanted side; 0 keeps theirs.

    Returns:
        (N, size_px, size_px, 3) in 0..255, float32 where they were resized.
    """
    if size_px in (0, images.shape[1]):
        return images
    pixels = images.permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, (size_px, size_px), mode="bicubic", antialias=True)
    return pixels.clamp(0, 255).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class DistilLoss:
    """kd_weight * kd + (1 - kd_weight) * loss on the labels.

    Args:
        kd_weight: in [0, 1].
        temperature: > 0.
        label_loss: on the models' device; None is plain cross-entropy.
        all_labelled: whether every image has a label; then nobody asks, which on a GPU waits.

    Raises:
        ValueError: kd_weight or temperature is out of range.
    """

    kd_weight: float
    temperature: float
    label_loss: LabelLoss = field(default_factory=LabelLoss)
    all_labelled: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.kd_weight <= 1:
            raise ValueError(f"kd_weight = {self.kd_weight}: expected 0 to 1.")
        if self.temperature <= 0:
            raise ValueError(f"temperature = {self.temperature}: expected more than 0.")

    def __call__(self, logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> StepOutput:
        """Score one batch; the terms are `kd`, `agreement` and the label loss.

        Args:
            logits: (N, K) of the student.
            teacher_logits: (N, K).
            labels: (N,) or (N, K), as `train.losses.targets`. The label loss is the mean over
                those that
                are wholly labelled; an image without a label, or a mixture with one, has the
                distillation loss alone.
        """
        kd = kd_loss(logits, teacher_logits, temperature=self.temperature)
        hard = self._on_labels(logits, labels)
        loss = self.kd_weight * kd + (1 - self.kd_weight) * hard
        agreement = (logits.argmax(1) == teacher_logits.argmax(1)).float().mean()
        terms = {"kd": kd.detach(), self.label_loss.name: hard.detach(), "agreement": agreement}
        return StepOutput(loss, logits, terms)

    def _on_labels(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The label loss of what is labelled; 0 where nothing is."""
        loss: Tensor
        if self.all_labelled:
            loss = self.label_loss(logits, labels)
            return loss
        known = class_numbers(labels, logits.shape[1]) >= 0
        if not known.any():
            return logits.new_zeros(())
        loss = self.label_loss(logits[known], labels[known])
        return loss


class Distillation:
    """Objective: the student learns what its teachers say of the very view that it sees.

    Consistent teaching (Beyer et al. 2021, arXiv:2106.05237, section 3): one crop, one mixture,
    for both. The teachers live here and not in the model: the optimiser cannot see them,
    `model.train()` cannot wake them, and each normalises its input with its own mean and std.

    Args:
        teachers: classifiers over the same labels in the same order; put into evaluation mode.
        kd_weight: in [0, 1].
        temperature: > 0.
        label_loss: on the models' device; None is plain cross-entropy.
        all_labelled: as `DistilLoss`.
        student_px: side that the student sees, where views come larger; 0 is the views' own.
        teacher_px: likewise the teachers.

    Raises:
        ValueError: no teacher, or kd_weight or temperature is out of range.
    """

    def __init__(
        self,
        *teachers: nn.Module,
        kd_weight: float,
        temperature: float,
        label_loss: LabelLoss | None = None,
        all_labelled: bool = False,
        student_px: int = 0,
        teacher_px: int = 0,
    ) -> None:
        if not teachers:
            raise ValueError("No teacher.")
        self._teachers = tuple(teacher.eval().requires_grad_(False) for teacher in teachers)
        self._loss = DistilLoss(kd_weight, temperature, label_loss or LabelLoss(), all_labelled)
        self._student_px, self._teacher_px = student_px, teacher_px

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        """As `train.losses.objective.Objective`; the terms are those of `DistilLoss`."""
        with torch.no_grad():
            seen = resized(images, self._teacher_px)
            each = [teacher(seen) for teacher in self._teachers]
            teacher_logits = mean_logits(each, temperature=self._loss.temperature)
            images = resized(images, self._student_px)
        return self._loss(model(images), teacher_logits, labels)


class CachedDistillation:
    """Objective: the student learns what its teachers once said of the whole, plain image.

    Inferior to `Distillation`: the answer is of another picture than the crop that the student
    sees. Beyer et al. 2021, arXiv:2106.05237, section 3.1, found it to overfit and to end lowest
    ("fixed teacher"). It saves the teachers' forward passes.

    Args:
        kd_weight: in [0, 1].
        temperature: > 0.
        label_loss: on the model's device; None is plain cross-entropy.
    """

    def __init__(
        self, *, kd_weight: float, temperature: float, label_loss: LabelLoss | None = None
    ) -> None:
        self._loss = DistilLoss(kd_weight, temperature, label_loss or LabelLoss())

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        """As `train.losses.objective.Objective`.

        Args:
            model: the student.
            images: (N, H, W, 3).
            labels: (N, 2 K): shares of the classes, then the teachers' logits.
        """
        classes = labels.shape[1] // 2
        return self._loss(model(images), labels[:, classes:], labels[:, :classes])

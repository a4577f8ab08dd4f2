"""Distillation: the student imitates the teacher on the very same augmented views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.label_loss import LabelLoss
from train.objective import StepOutput

__all__ = ["Distillation", "kd_loss"]


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


class Distillation:
    """Objective: kd_weight * kd + (1 - kd_weight) * loss on the labels.

    The teacher lives here and not in the model: the optimiser cannot see it, `model.train()`
    cannot wake it, and it normalises its input with its own mean and std.

    Args:
        teacher: classifier over the same labels in the same order; put into evaluation mode.
        kd_weight: in [0, 1].
        temperature: > 0.
        label_loss: on the models' device; None is plain cross-entropy.

    Raises:
        ValueError: kd_weight or temperature is out of range.
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        kd_weight: float,
        temperature: float,
        label_loss: LabelLoss | None = None,
    ) -> None:
        if not 0 <= kd_weight <= 1:
            raise ValueError(f"kd_weight = {kd_weight}: expected 0 to 1.")
        if temperature <= 0:
            raise ValueError(f"temperature = {temperature}: expected more than 0.")
        self._teacher = teacher.eval().requires_grad_(False)
        self._kd_weight, self._temperature = kd_weight, temperature
        self._label_loss = label_loss or LabelLoss()

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        """As `train.objective.Objective`; the terms are `kd`, `agreement` and the label loss.

        Of mixed images teacher and student see the same mixture, and its target joins the labels.
        """
        with torch.no_grad():
            teacher_logits = self._teacher(images)
        logits = model(images)
        kd = kd_loss(logits, teacher_logits, temperature=self._temperature)
        hard = self._label_loss(logits, labels)
        loss = self._kd_weight * kd + (1 - self._kd_weight) * hard
        agreement = (logits.argmax(1) == teacher_logits.argmax(1)).float().mean()
        terms = {
            "kd": kd.detach(),
            self._label_loss.name: hard.detach(),
            "agreement": agreement,
        }
        return StepOutput(loss, logits, terms)

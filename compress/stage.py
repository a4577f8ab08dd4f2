"""The student's stage: a teacher's folder becomes a student's. FixRes has `fixres_stage`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import log_softmax

from compress.distil import Distillation
from compress.options import DistilOptions
from compress.task import check_same_task
from train.checkpoint import load_checkpoint
from train.dataset import Dataset
from train.evaluate import read_predictions
from train.fitting import pick_device
from train.label_loss import build_label_loss
from train.loop import Listener, Scores
from train.options import TrainOptions
from train.order import draws_per_class
from train.progress import say
from train.stage import train_model

__all__ = ["distil_student"]


def distil_student(
    dataset: Dataset,
    teacher_folder: Path,
    options: TrainOptions,
    distil: DistilOptions,
    *,
    seed: int,
    out: Path,
    listen: Listener | None = None,
) -> Scores:
    """Train a student under a teacher; writes what `train.stage.train_teacher` writes.

    Returns:
        Headline metrics, with the student's agreement with its teacher on the test split.

    Raises:
        CheckpointError: the teacher has other classes or was trained on another dataset.
    """
    teacher, card = load_checkpoint(teacher_folder)
    check_same_task(card, dataset, teacher_folder)
    if options.label_smoothing:
        say("  Distillation takes the labels unsmoothed: smoothing hides what the teacher knows.")
    if options.loss.centre_weight:
        say("  Distillation has no centre loss: loss.centre_weight is for the baseline alone.")
    counts = draws_per_class(dataset.targets("train"), options.balance_limit)
    device = pick_device()
    objective = Distillation(
        teacher.to(device),
        kd_weight=distil.kd_weight,
        temperature=distil.temperature,
        label_loss=build_label_loss(options.loss, label_smoothing=0.0, counts=counts).to(device),
    )
    metrics = train_model(dataset, options, objective, seed=seed, out=out, listen=listen)
    return metrics | _agreement(teacher_folder, out)


def _agreement(teacher_folder: Path, student_folder: Path) -> Scores:
    """Share of test photographs with the teacher's answer, and mean KL(teacher || student)."""
    teacher, student = (
        read_predictions(folder / "predictions.csv").of_split("test")
        for folder in (teacher_folder, student_folder)
    )
    log_t, log_s = (log_softmax(p.logits.astype(float), axis=1) for p in (teacher, student))
    return {
        "teacher_agreement": float((teacher.answers == student.answers).mean()),
        "teacher_kl": float((np.exp(log_t) * (log_t - log_s)).sum(1).mean()),
    }

"""The student's stage: teachers' folders become a student's. FixRes has `fixres_stage`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.distil import CachedDistillation, Distillation
from compress.options import DistilOptions
from compress.teachers import Teacher, open_teachers, teacher_logits
from serve.contract.digest import canonical_json, digest_of_json
from serve.contract.errors import UsageError
from train.data.dataset import Dataset
from train.data.unlabelled import Unlabelled
from train.engine.callbacks import Callback
from train.engine.loop import Scores
from train.engine.progress import say
from train.engine.world import current_world
from train.evaluation import agreement, read_predictions
from train.fitting import pick_device
from train.loader.sampler import draws_per_class
from train.losses.label_loss import LabelLoss, build_label_loss
from train.losses.objective import Objective, TrainingTask
from train.options import TrainOptions
from train.stage import train_model

__all__ = ["REPORT", "build_task", "distil_student"]

REPORT = "distillation.json"
INFERIOR = (
    "cached: each teacher answered once for the whole image, not for the views that the "
    "student saw; inferior to online (arXiv:2106.05237, section 3.1)"
)


def distil_student(
    dataset: Dataset,
    teacher_folder: Path,
    options: TrainOptions,
    distil: DistilOptions,
    *,
    seed: int,
    out: Path,
    callbacks: Sequence[Callback] = (),
    unlabelled: Unlabelled | None = None,
) -> Scores:
    """Train a student under its teachers.

    Writes what `train.stage.train_teacher` writes, and distillation.json: who taught, how, and on
    what; with unlabelled images also unlabelled.csv.

    Args:
        dataset: labelled images.
        teacher_folder: of the first teacher; `distil.more_teachers` names the others.
        options: of the student's training.
        distil: how it learns from the teachers.
        seed: of everything random.
        out: the stage's folder.
        callbacks: what plugs in; records of epochs have val_agreement and val_kl.
        unlabelled: further images, which have the distillation loss alone.

    Returns:
        Headline metrics, with the student's agreement with its teachers on the val and test splits.

    Raises:
        CheckpointError: a teacher has other classes or was trained on another dataset.
        UsageError: options that do not go together.
    """
    check_options(options, distil)
    folders = [teacher_folder, *map(Path, distil.more_teachers)]
    teachers = open_teachers(folders, dataset)
    _say_what_is_off(options, distil, unlabelled)
    device = pick_device()
    for teacher in teachers:
        teacher.model.to(device)
    task = build_task(dataset, teachers, options, distil, unlabelled)
    metrics = train_model(dataset, options, task, seed=seed, out=out, callbacks=callbacks)
    if not current_world().is_writer:
        return metrics
    found = _agreements(dataset, teachers, out)
    report: dict[str, Any] = {
        "teachers": [teacher.describe() for teacher in teachers],
        "teacher_logits": INFERIOR if distil.teacher_logits == "cached" else "online",
        "agreement": found,
    }
    if unlabelled is not None:
        unlabelled.write(out)
        report["unlabelled"] = unlabelled.describe()
    (out / REPORT).write_bytes(canonical_json(report))
    return metrics | found


def check_options(options: TrainOptions, distil: DistilOptions) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: names them.
    """
    augment = options.augment
    if distil.teacher_logits == "cached" and (augment.mixup or augment.cutmix):
        raise UsageError(
            f"Cached logits know images, not mixtures: mixup = {augment.mixup:g}, "
            f"cutmix = {augment.cutmix:g}.",
            "Set distil.teacher_logits=online, or student.augment.mixup=0 and cutmix=0.",
        )
    if distil.teacher_size_px and augment.multi_scale:
        raise UsageError(
            f"distil.teacher_size_px = {distil.teacher_size_px} needs views of one size: "
            f"multi_scale = {augment.multi_scale:g}.",
            "Set student.augment.multi_scale=0 or distil.teacher_size_px=0.",
        )


def _say_what_is_off(
    options: TrainOptions, distil: DistilOptions, unlabelled: Unlabelled | None
) -> None:
    if options.label_smoothing:
        say("  Distillation takes the labels unsmoothed: smoothing hides what the teacher knows.")
    if options.loss.centre_weight:
        say("  Distillation has no centre loss: loss.centre_weight is for the baseline alone.")
    if distil.teacher_logits == "cached":
        say(f"  Teacher logits are {INFERIOR}.")
    if unlabelled is not None:
        say(f"  {unlabelled.sentence()}")


def build_task(
    dataset: Dataset,
    teachers: Sequence[Teacher],
    options: TrainOptions,
    distil: DistilOptions,
    unlabelled: Unlabelled | None,
) -> TrainingTask:
    """What `distil_student` trains with; the arguments are as there.

    Raises:
        UsageError: options that do not go together.
    """
    check_options(options, distil)
    counts = draws_per_class(dataset.targets("train"), options.balance_limit)
    label_loss = build_label_loss(options.loss, label_smoothing=0.0, counts=counts)
    label_loss.to(pick_device())
    further = unlabelled.absolute if unlabelled else ()
    soft_targets = None
    if distil.teacher_logits == "cached":
        photos = [*dataset.of_split("train"), *further]
        soft_targets = teacher_logits(
            teachers, dataset.root, photos, temperature=distil.temperature
        )
    decides = {
        "temperature": distil.temperature,
        "kd_weight": distil.kd_weight,
        "teacher_logits": distil.teacher_logits,
        "teacher_size_px": distil.teacher_size_px,
        "teachers": [teacher.describe() for teacher in teachers],
        "unlabelled": unlabelled.digest if unlabelled else "",
    }
    return TrainingTask(
        _objective(teachers, options, distil, label_loss, all_labelled=unlabelled is None),
        view_px=max(options.train_size_px, distil.teacher_size_px) if distil.teacher_size_px else 0,
        unlabelled=further,
        soft_targets=soft_targets,
        val_logits=teacher_logits(teachers, dataset.root, dataset.of_split("val")),
        lineage={"lesson_digest": digest_of_json(decides)},
    )


def _objective(
    teachers: Sequence[Teacher],
    options: TrainOptions,
    distil: DistilOptions,
    label_loss: LabelLoss,
    *,
    all_labelled: bool,
) -> Objective:
    weights = {"kd_weight": distil.kd_weight, "temperature": distil.temperature}
    if distil.teacher_logits == "cached":
        return CachedDistillation(**weights, label_loss=label_loss)
    return Distillation(
        *(teacher.model for teacher in teachers),
        **weights,
        label_loss=label_loss,
        all_labelled=all_labelled,
        student_px=options.train_size_px if distil.teacher_size_px else 0,
        teacher_px=distil.teacher_size_px,
    )


def _agreements(dataset: Dataset, teachers: Sequence[Teacher], out: Path) -> Scores:
    """How far the finished student answers as its teachers do, each at its own test size."""
    predictions = read_predictions(out / "predictions.csv")
    found: Scores = {}
    for split, prefix in (("val", "val"), ("test", "teacher")):
        student = predictions.of_split(split)
        taught = teacher_logits(teachers, dataset.root, student.photos)
        found[f"{prefix}_agreement"], found[f"{prefix}_kl"] = agreement(taught, student.logits)
    return found

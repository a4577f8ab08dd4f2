"""The compression stages: student, baseline and FixRes, each from files to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import log_softmax

from compress.distil import Distillation
from compress.fixres import ClassifierAndLastNorm, changed_tensors, last_norm, tensor_digests
from compress.options import DistilOptions, FixResOptions
from serve.contract.digest import canonical_json
from serve.contract.errors import CheckpointError
from serve.contract.preprocess import PreprocessSpec, crop_and_resize
from train.batches import FixedViews, Views, pixels_of
from train.checkpoint import ModelCard, load_checkpoint
from train.dataset import Dataset
from train.evaluate import (
    Predictions,
    evaluate,
    predict_logits,
    read_predictions,
    validator,
)
from train.fitting import build_views, pick_device
from train.label_loss import build_label_loss
from train.loop import Listener, Phase, Scores, fit
from train.models import PhotoClassifier, check_size
from train.objective import CrossEntropy
from train.options import TrainOptions
from train.order import draws_per_class
from train.photos import dataset_digest
from train.place import share
from train.plan import Plan
from train.progress import say
from train.stage import finish, train_model

__all__ = ["distil_student", "fine_tune_fixres"]


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
    _check_same_task(card, dataset, teacher_folder)
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


def fine_tune_fixres(
    dataset: Dataset, student_folder: Path, options: FixResOptions, *, seed: int, out: Path
) -> Scores:
    """Fine-tune a student's classifier and last batch norm at the test size.

    The training photographs pass through the evaluation transform, without augmentation. Writes
    what `train.stage.train_teacher` writes, and fixres.json: the proof that nothing else changed,
    and the student merely tested at the new size, which FixRes is judged against.

    Returns:
        Headline metrics.
    """
    model, card = load_checkpoint(student_folder)
    _check_same_task(card, dataset, student_folder)
    spec = PreprocessSpec(options.test_size_px, options.crop_pct, card.preprocess.interpolation)
    check_size(model, spec.size_px)
    validate = validator(
        pixels_of(dataset.root, share(dataset.of_split("val")), spec), dataset.targets("val")
    )
    resized = _score(dataset, model, card, spec)
    norm = last_norm(model, spec.size_px)
    if norm is None:
        say(f"  {card.arch} has no batch norm: FixRes fine-tunes the classifier alone.")
    policy = ClassifierAndLastNorm(norm, affine=options.norm == "affine")
    before = tensor_digests(model.backbone)
    views = _test_views(dataset, spec, seed)
    plan = Plan(
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        optimizer="sgd",
        weight_decay=options.weight_decay,
        workers=0,
        seed=seed,
    )
    model.to(pick_device())
    phase = Phase("fixres", CrossEntropy(), policy, plan)
    fitted = fit(phase, model, views, validate=validate, folder=out)
    model.cpu()
    allowed = policy.may_change(model)
    proof = changed_tensors(before, tensor_digests(model.backbone), allowed=allowed)
    fixed = ModelCard.of(
        model,
        labels=card.labels,
        preprocess=spec,
        train_size_px=card.train_size_px,
        dataset_digest=card.dataset_digest,
    )
    extra = {"kept": {"fixres": fitted.kept}, "candidates": {"fixres": fitted.candidates}}
    metrics = finish(dataset, model, fixed, phases=["fixres"], out=out, extra=extra)
    report = {"last_norm": norm, "proof": proof, "resized_only": resized}
    (out / "fixres.json").write_bytes(canonical_json(report))
    return metrics | {"resized_only_test_top1": resized["test"]["top1"]}


def _test_views(dataset: Dataset, spec: PreprocessSpec, seed: int) -> Views:
    """The training photographs as the server sees them, computed once where memory allows."""
    photos = dataset.of_split("train")
    if 3 * spec.size_px**2 * len(photos) <= dataset.cache_mib * 2**20:
        return FixedViews(pixels_of(dataset.root, photos, spec), dataset.targets("train"))

    def view(
        pixels: NDArray[np.uint8], size_px: int, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        return np.asarray(crop_and_resize(Image.fromarray(pixels), spec))

    return build_views(dataset, view, keep_px=0, seed=seed)


def _score(
    dataset: Dataset, model: PhotoClassifier, card: ModelCard, spec: PreprocessSpec
) -> dict[str, Any]:
    """Evaluate a model at another size, unchanged."""
    photos = dataset.of_split("val") + dataset.of_split("test")
    logits = predict_logits(model, pixels_of(dataset.root, photos, spec))
    predictions = Predictions(photos, card.labels, logits)
    return {split: evaluate(predictions.of_split(split)) for split in ("val", "test")}


def _check_same_task(card: ModelCard, dataset: Dataset, folder: Path) -> None:
    if card.labels != dataset.labels:
        raise CheckpointError(
            f"{folder} knows the classes {', '.join(card.labels)}; "
            f"the dataset has {', '.join(dataset.labels)}.",
            "Train it on this dataset: stillroom train PHOTOS --run RUN",
        )
    digest = dataset_digest(dataset.photos)
    if card.dataset_digest != digest:
        raise CheckpointError(
            f"{folder} was trained on dataset {card.dataset_digest[:12]}; this is {digest[:12]}.",
            "Train it on this dataset: stillroom train PHOTOS --run RUN",
        )


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

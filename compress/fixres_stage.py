"""The FixRes stage: a student's folder becomes that of the student fitted to its test size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compress.fixres import ClassifierAndLastNorm, changed_tensors, last_norm, tensor_digests
from compress.options import FixResOptions
from compress.task import check_same_task
from serve.contract.digest import canonical_json
from serve.contract.preprocess import PreprocessSpec, crop_and_resize
from train.batches import FixedViews, Views, pixels_of
from train.checkpoint import ModelCard, load_checkpoint
from train.dataset import Dataset
from train.evaluate import Predictions, evaluate, predict_logits, validator
from train.fitting import build_views, pick_device
from train.loop import Phase, Scores, fit
from train.models import PhotoClassifier, check_size
from train.objective import CrossEntropy
from train.place import share
from train.plan import Plan
from train.progress import say
from train.stage import finish

__all__ = ["fine_tune_fixres"]


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
    check_same_task(card, dataset, student_folder)
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

    def view(image: Image.Image, size_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        return np.asarray(crop_and_resize(image, spec))

    return build_views(dataset, view, keep_px=0, seed=seed)


def _score(
    dataset: Dataset, model: PhotoClassifier, card: ModelCard, spec: PreprocessSpec
) -> dict[str, Any]:
    """Evaluate a model at another size, unchanged."""
    photos = dataset.of_split("val") + dataset.of_split("test")
    logits = predict_logits(model, pixels_of(dataset.root, photos, spec))
    predictions = Predictions(photos, card.labels, logits)
    return {split: evaluate(predictions.of_split(split)) for split in ("val", "test")}

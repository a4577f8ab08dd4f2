"""The FixRes stage: a student's folder becomes that of the student fitted to its test size."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compress.dataset_match import check_same_task
from compress.fixres import ClassifierAndLastNorms, digests_of_model, test_time_views
from compress.last_norms import LastNorms, find_last_norms
from compress.options import FixResOptions
from compress.proof import prove_frozen
from serve.contract.digest import canonical_json
from serve.contract.preprocess import PreprocessSpec
from train.data.dataset import Dataset
from train.engine.loop import Phase, Scores, fit
from train.engine.plan import PhaseOptions
from train.engine.progress import say
from train.engine.world import shard_of_rank
from train.evaluation import Predictions, evaluate, predict_logits, validator, write_predictions
from train.fitting import pick_device
from train.loader.views import pixels_of
from train.losses.objective import CrossEntropy
from train.models.checkpoint import ModelCard, load_checkpoint
from train.models.classifier import ImageClassifier, check_size
from train.stage import finish

__all__ = ["PHASE", "RESIZED", "Tuned", "choose_kept", "fine_tune_fixres", "tune_fixres"]

PHASE = "fixres"
RESIZED = "resized.csv"  # answers of the student, unchanged, at the size of FixRes


@dataclass(frozen=True)
class Tuned:
    """A student fitted to its test size, judged on val alone.

    Args:
        model: on the CPU.
        card: of it; its preprocess has the test size.
        norms: what was found at the end of the network.
        kept: fixres, or student where that is the better at the new size on val: by top-1, and by
            the loss where they are equal.
        candidates: val_loss and val_top1 of both.
        proof: of `compress.proof.prove_frozen`.
    """

    model: ImageClassifier
    card: ModelCard
    norms: LastNorms
    kept: str
    candidates: dict[str, Scores]
    proof: dict[str, Any]


def fine_tune_fixres(
    dataset: Dataset, student_folder: Path, options: FixResOptions, *, seed: int, out: Path
) -> tuple[Scores, dict[str, Any]]:
    """Fine-tune a student's classifier and last batch norms at the test size.

    Writes what `train.stage.train_teacher` writes; resized.csv, the predictions of the student
    merely
    tested at the new size, which FixRes is judged against; and fixres.json: the figures of those,
    and the proof that nothing else changed.

    Returns:
        Headline metrics, and the proof for the manifest.

    Raises:
        CheckpointError: the student is of another dataset.
        UsageError: the architecture cannot take the test size.
        GateError: a tensor changed that is frozen, or the training saw other pixels than the server
            computes; nothing was written.
    """
    model, card = load_checkpoint(student_folder)
    check_same_task(card, dataset, student_folder)
    student = copy.deepcopy(model)
    tuned = tune_fixres(dataset, model, card, options, seed=seed, folder=out)
    extra = {"kept": {PHASE: tuned.kept}, "candidates": {PHASE: tuned.candidates}}
    metrics = finish(dataset, tuned.model, tuned.card, phases=[PHASE], out=out, extra=extra)
    resized = _predict(dataset, student, tuned.card)
    write_predictions(out / RESIZED, resized)
    scores = {split: evaluate(resized.of_split(split)) for split in ("val", "test")}
    proof = {
        "last_norms": list(tuned.norms.names),
        "norm": options.norm,
        "note": tuned.norms.why_none(card.arch),
        "kept": tuned.kept,
        "proof": tuned.proof,
    }
    (out / "fixres.json").write_bytes(canonical_json({**proof, "resized_only": scores}))
    return metrics | {"resized_only_test_top1": scores["test"]["top1"]}, {"fixres": proof}


def tune_fixres(
    dataset: Dataset,
    model: ImageClassifier,
    card: ModelCard,
    options: FixResOptions,
    *,
    seed: int,
    folder: Path,
) -> Tuned:
    """Fine-tune without a look at the test split; the training images as the server sees them.

    Args:
        dataset: its train split is fitted; its val split says whether the result is kept.
        model: the student on the CPU; changed in place.
        card: of the student.
        options: of FixRes.
        seed: of the order of the images.
        folder: where an interrupted training is saved, and found again.

    Raises:
        UsageError, GateError: as `fine_tune_fixres`.
    """
    spec = replace(card.preprocess, size_px=options.test_size_px, crop_pct=options.crop_pct)
    check_size(model, spec.size_px)
    norms = find_last_norms(model, spec.size_px)
    if why := norms.why_none(model.arch):
        say(f"  {why}")
    validate = validator(
        pixels_of(dataset.root, shard_of_rank(dataset.of_split("val")), spec),
        dataset.targets("val"),
    )
    views = test_time_views(dataset, spec, seed)
    policy = ClassifierAndLastNorms(norms.names, affine=options.norm == "affine")
    before, weights = digests_of_model(model), copy.deepcopy(model.state_dict())
    model.to(pick_device())
    resized = validate(model)
    phase = Phase(PHASE, CrossEntropy(), policy, _plan(options, seed))
    fitted = fit(phase, model, views, validate=validate, folder=folder)
    model.cpu().eval()
    proof = prove_frozen(before, digests_of_model(model), free=policy.may_change(model))
    candidates = {"student": resized, PHASE: fitted.scores}
    kept = choose_kept(candidates)
    if kept == "student":
        say("  FixRes is not better on val: kept the student as it was.")
        model.load_state_dict(weights)
        proof["changed"] = []
    return Tuned(model, _card_of(model, card, spec), norms, kept, candidates, proof)


def choose_kept(candidates: dict[str, Scores]) -> str:
    """The name of the candidate that is best on val.

    By top-1 first, by the loss where that is equal: images that were memorised make a
    model surer, and the loss of its few errors higher, while it answers more of them right.
    """
    return min(candidates, key=lambda c: (-candidates[c]["val_top1"], candidates[c]["val_loss"]))


def _plan(options: FixResOptions, seed: int) -> PhaseOptions:
    return PhaseOptions(
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        optimizer="sgd",
        weight_decay=options.weight_decay,
        workers=0,
        seed=seed,
    )


def _card_of(model: ImageClassifier, student: ModelCard, spec: PreprocessSpec) -> ModelCard:
    return ModelCard.of(
        model,
        labels=student.labels,
        preprocess=spec,
        train_size_px=student.train_size_px,
        dataset_digest=student.dataset_digest,
    )


def _predict(dataset: Dataset, model: ImageClassifier, card: ModelCard) -> Predictions:
    photos = dataset.of_split("val") + dataset.of_split("test")
    logits = predict_logits(model, pixels_of(dataset.root, photos, card.preprocess))
    return Predictions(photos, card.labels, logits)

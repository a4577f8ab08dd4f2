"""The one training loop. Stages differ by objective and freeze policy, not by flags."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from serve.contract.errors import DatasetError, Interrupted
from train.engine.determinism import cudnn_mode
from train.engine.plan import PhaseOptions
from train.engine.progress import say, steps
from train.engine.signals import stop_on_signal
from train.engine.step import DTYPES
from train.engine.throughput import TIMINGS, ThroughputMeter
from train.engine.trainer import Listener, Trainer, Validate
from train.engine.weight_averaging import Candidate, Scores, choose, measure_norms, norms_that_move
from train.engine.world import current_world, shard_of_rank
from train.extras.distributed.collectives import barrier, each_any_true
from train.extras.distributed.shared_errors import check_batch_size, shared
from train.loader.dataloader import feed
from train.loader.sampler import BatchSampler, some_batches
from train.loader.views import Views, build_loader
from train.losses.objective import Objective
from train.models.classifier import ImageClassifier
from train.models.freeze import FreezePolicy

__all__ = ["Fitted", "Listener", "Phase", "Scores", "Validate", "fit"]


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Args:
        name: in the log and the progress bar.
        objective: forward and loss.
        policy: what learns.
        plan: the schedule.
    """

    name: str
    objective: Objective
    policy: FreezePolicy
    plan: PhaseOptions


@dataclass(frozen=True)
class Fitted:
    """What a phase ended with.

    Args:
        kept: which weights the model has now: raw, ema or swa, with "+bn" after precise batch norm.
        scores: their val_loss and val_top1.
        candidates: scores of all that were compared.
    """

    kept: str
    scores: Scores
    candidates: dict[str, Scores]


def fit(
    phase: Phase,
    model: ImageClassifier,
    views: Views,
    *,
    validate: Validate,
    folder: Path,
    listen: Listener | None = None,
    lineage: Mapping[str, str] | None = None,
) -> Fitted:
    """Train a model in place, resuming from `folder` where an earlier call was stopped.

    Args:
        phase: what to do.
        model: on the device it trains on.
        views: training views.
        validate: scores a model at the end of each epoch.
        folder: its hidden folder `.{name}` gets metrics.jsonl and the state to resume from.
        listen: gets each epoch's record as metrics.jsonl has it.
        lineage: digests of the recipe and the dataset; a state of others is not resumed from.

    Returns:
        Which of the last weights and their averages was kept: where the validation loss is lowest.

    Raises:
        DatasetError: fewer photographs than one batch.
        CheckpointError: the state in `folder` belongs to another recipe or dataset.
        UsageError: the ranks cannot share a batch equally, or see different files.
        Interrupted: a signal came; the state is saved.
        StillroomError: the loss is not finite.
    """
    plan = phase.plan
    check_batch_size(plan.batch_size)
    order = BatchSampler(
        views.targets,
        plan.batch_size,
        plan.epochs,
        plan.seed,
        balance_limit=plan.balance_limit,
        sizes_px=plan.sizes_px,
        shards=views.shards,
    )
    if order.per_epoch == 0:
        raise DatasetError(
            f"{len(views)} training images are fewer than one batch of {plan.batch_size}.",
            "Lower batch_size.",
        )
    training = Trainer(phase.name, model, phase.objective, phase.policy, plan, order.per_epoch)
    training.resume(folder / f".{phase.name}", lineage)
    left = order.starting_at(training.done).of_rank(
        current_world().rank, current_world().world_size
    )
    _run(training, views, left, validate, listen if current_world().is_writer else None)
    fitted = _keep_best(training, views, validate)
    if len(fitted.candidates) > 1:
        losses = ", ".join(f"{n} {s['val_loss']:.4f}" for n, s in fitted.candidates.items())
        say(f"  {phase.name}: kept the {fitted.kept} weights (validation loss: {losses})")
    return fitted


def _run(
    training: Trainer,
    views: Views,
    order: BatchSampler,
    validate: Validate,
    listen: Listener | None,
) -> None:
    """The epochs that are left."""
    plan = training.plan
    pace = ThroughputMeter(training.folder / TIMINGS)
    with (
        closing(feed(views, order, workers=plan.workers)) as batches,  # its workers end with it
        steps(training.name, training.total) as bar,
        stop_on_signal() as stop,
        cudnn_mode(deterministic=plan.deterministic),
    ):
        bar.advance(training.done)
        for batch in pace.watched(batches):
            training.step(batch)
            pace.count(current_world().world_size * len(batch.images))
            bar.advance(1, f"loss {training.loss:.3f}  {pace}")
            if training.at_epoch_end:
                pace.end_steps()
                record = training.end_epoch(validate)
                bar.write(f"{training.line(record)}  {pace.line}")
                pace.end_epoch(record["epoch"], training.name)
            stopping, due = each_any_true(bool(stop), pace.save_due(plan.save_minutes))
            if training.at_epoch_end or stopping or due:
                training.save()
                pace.saved()
            if stopping:
                stop.follow()
                barrier()  # a rank that ends makes torchrun end the one that saves
                again = "Run the same command again to go on."
                raise shared(Interrupted(training.stopped(), again))
            if training.at_epoch_end:
                if listen is not None:
                    listen(record)
                pace.start_epoch()


def _keep_best(training: Trainer, views: Views, validate: Validate) -> Fitted:
    """Compare the last weights with their averages, and give the model the best."""
    model = training.model
    candidates = []
    for name, averaged in training.weights().items():
        candidates.append(Candidate(name, averaged, validate(averaged)))
        if name != "raw" and (measured := _measured(training, averaged, views)) is not None:
            candidates.append(Candidate(f"{name}+bn", measured, validate(measured)))
    best = choose(candidates)
    if best.model is not model:
        model.load_state_dict(best.model.state_dict())
    scores = {candidate.name: candidate.scores for candidate in candidates}
    return Fitted(best.name, best.scores, scores)


def _measured(training: Trainer, averaged: ImageClassifier, views: Views) -> ImageClassifier | None:
    """A copy of averaged weights with precise batch norm; None where it is off or has no effect."""
    plan = training.plan
    norms = norms_that_move(training.model)
    if not plan.precise_bn_images or not norms:
        return None
    keys = some_batches(
        len(views),
        plan.precise_bn_images,
        batch_size=plan.batch_size // current_world().world_size,
        epoch=plan.epochs,  # views that the training did not see
        seed=plan.seed,
        size_px=plan.size_px,
    )
    model = copy.deepcopy(averaged)

    def images() -> Iterable[Tensor]:
        batches = build_loader(views, shard_of_rank(keys), workers=0)
        return (batch.to(model.device).images for batch in batches)

    dtype = DTYPES.get(plan.precision)
    with torch.autocast(model.device.type, dtype, enabled=dtype is not None):
        measure_norms(model, norms, images)
    return model

"""The one training loop. Stages differ by objective and freeze policy, not by flags."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from serve.contract.errors import Interrupted
from train.engine.callbacks import Callback
from train.engine.progress import say, steps
from train.engine.seed import cudnn_mode
from train.engine.step import DTYPES
from train.engine.trainer import Trainer, Validate
from train.engine.weight_averaging import Candidate, Scores, choose, measure_norms, norms_that_move
from train.engine.world import current_world

if TYPE_CHECKING:
    from train.engine.plan import PhaseOptions
    from train.loader.sampler import BatchSampler
    from train.loader.views import Views
    from train.losses.objective import Objective
    from train.models.classifier import ImageClassifier
    from train.models.freeze import FreezePolicy

__all__ = ["Fitted", "Phase", "Scores", "Validate", "fit"]


@dataclass(frozen=True)
class Phase:
    """One stretch of trainer.

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
    callbacks: Sequence[Callback] = (),
    lineage: Mapping[str, str] | None = None,
) -> Fitted:
    """Train a model in place, resuming from `folder` where an earlier call was stopped.

    Args:
        phase: what to do.
        model: on the device it trains on.
        views: training views.
        validate: scores a model at the end of each epoch.
        folder: its hidden folder `.{name}` gets metrics.jsonl and the state to resume from.
        callbacks: what plugs in, called in this order.
        lineage: digests of the recipe and the dataset; a state of others is not resumed from.

    Returns:
        Which of the last weights and their averages was kept: where the validation loss is lowest.

    Raises:
        DatasetError: fewer images than one batch.
        CheckpointError: the state in `folder` belongs to another recipe or dataset.
        UsageError: the ranks cannot share a batch equally, or see different files.
        Interrupted: a signal came; the state is saved.
        StillroomError: the loss is not finite.
    """
    plan = phase.plan
    current_world().check_batch_size(plan.batch_size)
    sampler = plan.sampler_of(views)
    trainer = Trainer(
        phase.name,
        model,
        phase.objective,
        phase.policy,
        plan,
        sampler.per_epoch,
        callbacks=callbacks,
    )
    trainer.resume(folder / f".{phase.name}", lineage)
    _run(trainer, views, sampler, validate)
    fitted = _keep_best(trainer, views, validate)
    if len(fitted.candidates) > 1:
        losses = ", ".join(f"{n} {s['val_loss']:.4f}" for n, s in fitted.candidates.items())
        say(f"  {trainer.title}: kept the {fitted.kept} weights (validation loss: {losses})")
    return fitted


def _run(trainer: Trainer, views: Views, sampler: BatchSampler, validate: Validate) -> None:
    """The epochs that are left."""
    plan, world = trainer.plan, trainer.world
    pace = plan.meter_in(trainer.folder)
    with (
        closing(
            plan.batches_of(views, sampler, trainer.done, world)
        ) as batches,  # its workers end with it
        steps(trainer.title, trainer.total) as bar,
        plan.stop_flag() as stop,
        cudnn_mode(deterministic=plan.deterministic),
    ):
        bar.advance(trainer.done)
        for batch in pace.watched(batches):
            trainer.step(batch)
            images = world.world_size * len(batch.images)
            pace.count(images)
            for callback in trainer.callbacks:
                callback.on_step(trainer, images)
            bar.advance(1, f"loss {trainer.loss:.3f}  {pace}")
            if trainer.at_epoch_end:
                pace.end_steps()
                record = trainer.end_epoch(validate)
                bar.write(f"{trainer.line(record)}  {pace.line}")
                pace.end_epoch(record["epoch"], trainer.name)
            stopping, due = world.each_any_true(bool(stop), pace.save_due(plan.save_minutes))
            if trainer.at_epoch_end or stopping or due:
                trainer.save()
                pace.saved()
            if stopping:
                stop.follow()
                world.barrier()  # a rank that ends makes torchrun end the one that saves
                again = "Run the same command again to go on."
                for callback in trainer.callbacks:
                    callback.on_stop(trainer)
                raise world.shared(Interrupted(trainer.stopped(), again))
            if trainer.at_epoch_end:
                for callback in trainer.callbacks:
                    callback.on_epoch(trainer, record)
                pace.start_epoch()


def _keep_best(trainer: Trainer, views: Views, validate: Validate) -> Fitted:
    """Compare the last weights with their averages, and give the model the best."""
    model = trainer.model
    candidates = []
    for name, averaged in trainer.weights().items():
        candidates.append(Candidate(name, averaged, validate(averaged)))
        if name != "raw" and (measured := _measured(trainer, averaged, views)) is not None:
            candidates.append(Candidate(f"{name}+bn", measured, validate(measured)))
    best = choose(candidates)
    if best.model is not model:
        model.load_state_dict(best.model.state_dict())
    scores = {candidate.name: candidate.scores for candidate in candidates}
    return Fitted(best.name, best.scores, scores)


def _measured(trainer: Trainer, averaged: ImageClassifier, views: Views) -> ImageClassifier | None:
    """A copy of averaged weights with precise batch norm; None where it is off or has no effect."""
    plan = trainer.plan
    norms = norms_that_move(trainer.model)
    if not plan.precise_bn_images or not norms:
        return None
    model = copy.deepcopy(averaged)

    def images() -> Iterable[Tensor]:
        batches = plan.unseen_batches(views, trainer.world)
        return (batch.to(model.device).images for batch in batches)

    dtype = DTYPES.get(plan.precision)
    with torch.autocast(model.device.type, dtype, enabled=dtype is not None):
        measure_norms(model, norms, images)
    return model

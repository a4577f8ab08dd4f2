"""The one training loop. Stages differ by objective and freeze policy, not by flags."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor

from serve.contract.errors import DatasetError, Interrupted, StillroomError
from serve.contract.manifest import fsync_path
from train.batches import Views, build_loader
from train.freeze import FreezePolicy
from train.interrupt import stop_on_signal
from train.models import PhotoClassifier
from train.objective import Objective, StepOutput
from train.progress import steps
from train.seed import derive_seed
from train.state import Progress, load_state, save_state

__all__ = ["Plan", "Scores", "fit", "learning_rate"]

METRICS = "metrics.jsonl"

Scores = dict[str, float]
Validate = Callable[[PhotoClassifier], Scores]  # with val_loss and val_top1


@dataclass(frozen=True)
class Plan:
    """A schedule, in the units of `train.options.TrainOptions`."""

    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "adamw"
    min_lr: float = 1e-5
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    ema_decay: float = 0.0
    clip_norm: float = 0.0
    precision: str = "fp32"
    workers: int = 0
    seed: int = 0


def learning_rate(step: int, *, total: int, warmup: int, peak: float, floor: float) -> float:
    """Linear warm-up to `peak`, then a cosine to `floor`.

    Args:
        step: from 0.
        total: steps of the whole training.
        warmup: steps of the rise; step 0 already learns.
        peak: highest rate.
        floor: rate of the last step.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, one cycle.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    share = (step - warmup) / max(1, total - 1 - warmup)
    floor = min(floor, peak)
    return floor + (peak - floor) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def fit(
    name: str,
    model: PhotoClassifier,
    objective: Objective,
    policy: FreezePolicy,
    views: Views,
    *,
    plan: Plan,
    validate: Validate,
    folder: Path,
) -> Scores:
    """Train a model in place, resuming from `folder` where an earlier call was stopped.

    Args:
        name: of the phase, in the log and the progress bar.
        model: on the device it trains on.
        objective: forward and loss.
        policy: what learns.
        views: training views.
        plan: the schedule.
        validate: scores a model at the end of each epoch.
        folder: its hidden folder `.{name}` gets metrics.jsonl and the state to resume from.

    Returns:
        The last scores, and `ema` = 1.0 where the averaged weights were kept, which is where their
        validation loss is lower.

    Raises:
        DatasetError: fewer photographs than one batch.
        Interrupted: a signal came; the state is saved.
        StillroomError: the loss is not finite.
    """
    training = _Training(name, model, objective, policy, plan, len(views) // plan.batch_size)
    if training.per_epoch == 0:
        raise DatasetError(
            f"{len(views)} training images are fewer than one batch of {plan.batch_size}.",
            "Lower batch_size.",
        )
    training.resume(folder / f".{name}")
    loader = build_loader(
        views,
        batch_size=plan.batch_size,
        epochs=plan.epochs,
        first_step=training.done,
        workers=plan.workers,
        seed=plan.seed,
    )
    with steps(name, training.total) as bar, stop_on_signal() as stop:
        bar.advance(training.done)
        clock = _Clock()
        for images, labels in loader:
            loss = training.step(images, labels)
            bar.advance(1, f"loss {loss:.3f}  {clock.rate(len(images)):.0f} img/s")
            if training.at_epoch_end:
                bar.write(training.end_epoch(validate))
            if training.at_epoch_end or stop:
                training.save()
            if stop:
                raise Interrupted(
                    f"Stopped at step {training.done} of {training.total} of {name}; "
                    "everything is saved.",
                    "Run the same command again to go on.",
                )
    return _keep_better(model, training.ema, validate)


class _Training:
    """A model in training: its optimiser, its average, and how far it is."""

    def __init__(
        self,
        name: str,
        model: PhotoClassifier,
        objective: Objective,
        policy: FreezePolicy,
        plan: Plan,
        per_epoch: int,
    ) -> None:
        self.name, self.model, self.plan = name, model, plan
        self.per_epoch, self.total = per_epoch, per_epoch * plan.epochs
        self._objective, self._policy = objective, policy
        policy.freeze(model)
        self._optimizer = create_optimizer_v2(
            model.backbone, opt=plan.optimizer, lr=plan.lr, weight_decay=plan.weight_decay
        )
        self.ema = (
            ModelEmaV3(model, decay=plan.ema_decay, use_warmup=True) if plan.ema_decay else None
        )
        self.done = 0
        self._sums: dict[str, float] = {}

    @property
    def at_epoch_end(self) -> bool:
        return self.done % self.per_epoch == 0

    def resume(self, folder: Path) -> None:
        """Go on from the state in `folder`, or start there."""
        folder.mkdir(exist_ok=True)
        self._folder, self._log = folder, folder / METRICS
        progress = load_state(folder, model=self.model, ema=self.ema, optimizer=self._optimizer)
        self.done, self._sums = progress.step, dict(progress.sums)
        self._log.touch()
        os.truncate(self._log, progress.log_bytes)
        self._policy.set_mode(self.model)

    def step(self, images: Tensor, labels: Tensor) -> float:
        """One optimiser step; returns the loss."""
        plan, device = self.plan, self.model.device
        torch.manual_seed(derive_seed(plan.seed, "step", self.done))  # dropout and drop-path
        warmup = min(round(plan.warmup_epochs * self.per_epoch), self.total // 4)
        rate = learning_rate(
            self.done, total=self.total, warmup=warmup, peak=plan.lr, floor=plan.min_lr
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        labels = labels.to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            output = self._objective(self.model, images.to(device, non_blocking=True), labels)
        self._optimizer.zero_grad(set_to_none=True)
        output.loss.backward()  # type: ignore[no-untyped-call]
        if plan.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), plan.clip_norm)
        self._optimizer.step()
        self.done += 1
        if self.ema is not None:
            self.ema.update(self.model, step=self.done)
        return self._count(output, labels)

    def end_epoch(self, validate: Validate) -> str:
        """Validate, log, and return the epoch's line."""
        scores = validate(self.ema.module if self.ema is not None else self.model)
        self._policy.set_mode(self.model)
        # Sorted: sums that were read back from a state are.
        means = {key: value / self.per_epoch for key, value in sorted(self._sums.items())}
        epoch = self.done // self.per_epoch
        record = {"phase": self.name, "epoch": epoch, "step": self.done} | means | scores
        with self._log.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self._sums = {}
        self._check_finite(scores["val_loss"], "validation loss")
        return (
            f"  {self.name} epoch {epoch}/{self.plan.epochs}  loss {means['loss']:.3f}  "
            f"train {means['train_top1']:.1%}  val {scores['val_top1']:.1%}"
        )

    def save(self) -> None:
        """Save the state, to be found by `resume`."""
        fsync_path(self._log)  # the state names its length
        progress = Progress(self.done, self._sums, self._log.stat().st_size)
        save_state(
            self._folder, progress, model=self.model, ema=self.ema, optimizer=self._optimizer
        )

    def _count(self, output: StepOutput, labels: Tensor) -> float:
        hits = (output.logits.detach().argmax(1) == labels).float().mean()
        terms = {"loss": output.loss.detach(), "train_top1": hits, **output.terms}
        for key, value in terms.items():
            self._sums[key] = self._sums.get(key, 0.0) + float(value)
        loss = float(terms["loss"])
        self._check_finite(loss, "loss")
        return loss

    def _check_finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise StillroomError(
                f"The {what} of {self.name} is not finite at step {self.done}.",
                "Lower lr, or set precision=fp32, and run again.",
            )


def _keep_better(model: PhotoClassifier, ema: ModelEmaV3 | None, validate: Validate) -> Scores:
    raw = validate(model)
    if ema is None:
        return raw | {"ema": 0.0}
    averaged = validate(ema.module)
    if not averaged["val_loss"] <= raw["val_loss"]:  # so written, NaN never wins
        return raw | {"ema": 0.0}
    model.load_state_dict(ema.module.state_dict())
    return averaged | {"ema": 1.0}


class _Clock:
    """Images a second, over the whole training since (re)start."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._images = 0

    def rate(self, images: int) -> float:
        self._images += images
        return self._images / (time.perf_counter() - self._start)

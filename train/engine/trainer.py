"""A model in training: its optimiser, its averages, its log, and how far it is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from serve.contract.errors import CheckpointError
from serve.contract.files import fsync_path
from train.engine.callbacks import Callback, explain_nonfinite
from train.engine.progress import say
from train.engine.resume_state import ResumeState, load_state, save_state, saved_steps
from train.engine.seed import derive_seed
from train.engine.step import Part, Stepper, StepResult
from train.engine.weight_averaging import Scores, build_ema, build_swa
from train.engine.world import World, current_world

if TYPE_CHECKING:
    from train.engine.plan import PhaseOptions
    from train.loader.views import Batch
    from train.losses.objective import Objective
    from train.models.classifier import ImageClassifier
    from train.models.freeze import FreezePolicy

__all__ = ["METRICS", "RunningSums", "Trainer", "Validate"]

METRICS = "metrics.jsonl"
TITLES = {"head": "training the classifier", "all": "fine-tuning"}  # of phases, for people
HITS, LABELLED = "train_hits", "train_labelled"  # shares of a batch, summed over an epoch

Validate = Callable[["ImageClassifier"], Scores]  # with val_loss and val_top1


class Trainer:
    """One phase under way.

    Args:
        name: of the phase.
        model: on its device; changed in place.
        objective: forward and loss; a module's tensors are saved and restored with the state.
        policy: what learns.
        plan: the schedule.
        per_epoch: steps of an epoch.
        callbacks: what plugs in, called in this order.
        late: as `train.engine.step.Stepper`.
    """

    def __init__(
        self,
        name: str,
        model: ImageClassifier,
        objective: Objective,
        policy: FreezePolicy,
        plan: PhaseOptions,
        per_epoch: int,
        *,
        callbacks: Sequence[Callback] = (),
        late: bool | None = None,
    ) -> None:
        self.name, self.model, self.objective, self.plan = name, model, objective, plan
        self.callbacks = tuple(callbacks)
        self.per_epoch, self.total = per_epoch, per_epoch * plan.epochs
        self._policy = policy
        policy.freeze(model)
        self._stepper = Stepper(model, objective, plan, late)
        self._ema = build_ema(model, plan.ema_decay) if plan.ema_decay else None
        self._swa: AveragedModel | None = build_swa(model) if plan.swa_epochs else None
        self._schedule = plan.schedule_of(per_epoch)
        self._plateau = plan.plateau()
        self._mix = plan.mix_of(model.num_classes)
        self.done = 0
        self._val_loss: float | None = None  # of the weights as they are now
        self._unsaved = ""  # why the last save failed
        self._sums = RunningSums()
        self.loss = math.nan  # of this rank's share, as last looked at

    @property
    def title(self) -> str:
        """The phase, for people."""
        return TITLES.get(self.name, self.name)

    @property
    def world(self) -> World:
        """Of this process."""
        return current_world()

    @property
    def validated(self) -> ImageClassifier:
        """What an epoch's validation scores: the moving average where there is one."""
        model: ImageClassifier = self._ema.module if self._ema is not None else self.model
        return model

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last step was the last of an epoch."""
        return self.done % self.per_epoch == 0

    def resume(self, folder: Path, lineage: Mapping[str, str] | None = None) -> None:
        """Go on from the state in `folder`, or start there.

        Raises:
            CheckpointError: the state there belongs to another recipe or dataset.
        """
        folder.mkdir(exist_ok=True)
        self.folder, self._log, self._lineage = folder, folder / METRICS, lineage
        try:
            progress = load_state(
                folder, modules=self._modules(), optimizer=self._stepper.optimizer, lineage=lineage
            )
        except CheckpointError as error:
            self.world.shared(error)  # all ranks read the same folder
            raise
        self.world.check_equal(progress.step, f"a state of {self.name} at step")
        self.done, self._sums = progress.step, RunningSums(_sums_of_rank(progress.sums))
        self._stepper.load_scaler(progress.scaler)
        best, self._plateau.waited, self._plateau.decays = progress.plateau
        self._plateau.best = math.inf if best is None else best
        if self.world.is_writer:
            self._log.touch()
            os.truncate(self._log, progress.log_bytes)
        self._policy.set_mode(self.model)

    def step(self, batch: Batch) -> None:
        """One optimiser step on this rank's share of a batch.

        Raises:
            StillroomError: the loss or the gradient is not finite: of this step, or on a GPU of
                the one before.
        """
        rank = self.world.rank
        own = (rank,) if rank else ()  # the first rank draws as a process alone does
        torch.manual_seed(derive_seed(self.plan.seed, "step", self.done, *own))  # mixing
        images, labels, _ = batch.to(self.model.device)
        if self._mixes:
            images, labels = self._mix(images, labels)
        logits, terms = self._stepper.run(self._parts(images, labels, own), step=self.done)
        self._look(self._stepper.looked_at())  # before the update: the weights stay
        self._rate = self._schedule.rate(self.done, self._plateau.decays)
        self._stepper.update(self._rate)
        self.done += 1
        self._val_loss = None
        if self._ema is not None:
            self._ema.update(self.model, step=self.done)
        numbers = self._mix.class_numbers(labels)
        hits = (logits.argmax(1) == numbers).float().mean()
        self._sums.add(terms | {HITS: hits, LABELLED: (numbers >= 0).float().mean()})

    def look_back(self) -> None:
        """Look at all steps that were not looked at yet.

        Raises:
            StillroomError: the loss or the gradient of one is not finite.
        """
        self._look(self._stepper.looked_at(all_of_them=True))

    def end_epoch(self, validate: Validate) -> dict[str, Any]:
        """Average, validate, log, and return the epoch's record."""
        self.look_back()
        epoch = self.done // self.per_epoch
        for module in self._modules().values():
            self.world.broadcast_buffers(module)  # each rank's batch norms followed its own share
        if self._swa is not None and epoch > self.plan.epochs - self.plan.swa_epochs:
            self._swa.update_parameters(self.model)
        scores = validate(self.validated)
        self._policy.set_mode(self.model)
        self._plateau.watch(scores["val_loss"])
        # Sorted: sums that were read back from a state are.
        sums = self.world.all_reduce_mean(self._sums.values())
        top1 = sums.pop(HITS) / max(sums.pop(LABELLED), 1e-9)
        means = {key: value / self.per_epoch for key, value in sorted(sums.items())}
        means["train_top1"] = top1
        record = {"phase": self.name, "epoch": epoch, "step": self.done, "lr": self._rate}
        record |= means | {"weight_norm": self._weight_norm()} | scores
        if self.world.is_writer:
            with self._log.open("a") as file:
                file.write(json.dumps(record) + "\n")
        self._sums = RunningSums()
        self._val_loss = scores["val_loss"]
        if not math.isfinite(scores["val_loss"]):
            raise explain_nonfinite(self.callbacks, self, None)
        return record

    def line(self, record: dict[str, Any]) -> str:
        """An epoch's record, for people."""
        agrees = ""
        if "val_agreement" in record:
            agrees = f"  as the teacher {record['val_agreement']:.1%}"
        return (
            f"  {self.title}, epoch {record['epoch']}/{self.plan.epochs}  "
            f"loss {record['data_loss']:.3f}  train {record['train_top1']:.1%}  "
            f"val {record['val_top1']:.1%}{agrees}"
        )

    def weights(self) -> dict[str, ImageClassifier]:
        """The model and its averages, by name; averages without an update are left out."""
        weights: dict[str, Any] = {"raw": self.model}
        if self._ema is not None:
            weights["ema"] = self._ema.module
        if self._swa is not None and int(self._swa.n_averaged):
            weights["swa"] = self._swa.module
        return weights

    def save(self) -> None:
        """Save the state, to be found by `resume`; without space the older ones stay, and so do we.

        A training must not end because a disk is full for an hour. Of several ranks the first
        alone writes.
        """
        self.look_back()
        sums = _sums_of_all(self.world.all_gather_object(self._sums.values()))
        if not self.world.is_writer:
            return
        fsync_path(self._log)  # the state names its length
        plateau = self._plateau
        best = plateau.best if math.isfinite(plateau.best) else None
        progress = ResumeState(
            self.done,
            sums,
            self._log.stat().st_size,
            (best, plateau.waited, plateau.decays),
            self._stepper.scaler_state(),
        )
        try:
            save_state(
                self.folder,
                progress,
                modules=self._modules(),
                optimizer=self._stepper.optimizer,
                lineage=self._lineage,
                val_loss=self._val_loss,
            )
        except OSError as error:
            self._unsaved = str(error)
            say(f"  Step {self.done} could not be saved: {error}. {self._kept()}")
        else:
            self._unsaved = ""

    def stopped(self) -> str:
        """What to say when a signal ended the training, after the save."""
        where = f"Stopped at step {self.done} of {self.total} of {self.name}"
        if not self._unsaved:
            return f"{where}; everything is saved."
        return f"{where}, which could not be saved: {self._unsaved}. {self._kept()}"

    def _kept(self) -> str:
        states = saved_steps(self.folder)
        return f"The state of step {states[-1]} is kept." if states else "Nothing was saved yet."

    @property
    def _mixes(self) -> bool:
        epoch = self.done // self.per_epoch
        return self._mix.is_on and epoch < self.plan.epochs - self.plan.mix_off_epochs

    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"model": self.model}
        if self._ema is not None:
            modules["ema"] = self._ema.module
        if self._swa is not None:
            modules["swa"] = self._swa
        if isinstance(self.objective, nn.Module):
            modules["objective"] = self.objective
        return modules

    def _parts(self, images: Tensor, labels: Tensor, own: tuple[int, ...]) -> list[Part]:
        """The batch in `accumulate` parts, each with the seed that its forward is replayed by."""
        count = min(self.plan.accumulate, len(images))
        first = derive_seed(self.plan.seed, "forward", self.done, *own)
        seeds = [derive_seed(first, "part", n) if n else first for n in range(count)]
        pieces = zip(images.tensor_split(count), labels.tensor_split(count), seeds, strict=True)
        return [Part(*piece) for piece in pieces]

    def _look(self, results: list[StepResult]) -> None:
        """Raise where a step was not finite; the weights are those of before it."""
        for result in results:
            self.loss = result.loss
            if any(self.world.each_any_true(result.loss_is_bad)) or result.norm_is_bad:
                raise explain_nonfinite(self.callbacks, self, result)

    def _weight_norm(self) -> float:
        """Euclidean norm of the weights that decay."""
        with torch.no_grad():
            decayed = self._stepper.decayed
            return float(nn.utils.get_total_norm(decayed)) if decayed else 0.0


class RunningSums:
    """Sums of named scalars in double precision, on the device of what is added.

    Args:
        values: to go on from.
    """

    def __init__(self, values: Mapping[str, float] | None = None) -> None:
        self._start = dict(values or {})
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add one step's terms; every step has the same names."""
        if self._sums is None:
            self._names = tuple(terms)
            begin = [self._start.get(name, 0.0) for name in self._names]
            device = next(iter(terms.values())).device
            self._sums = torch.tensor(begin, dtype=torch.float64, device=device)
        self._sums += torch.stack([terms[name].detach().double() for name in self._names])

    def values(self) -> dict[str, float]:
        """The sums so far."""
        if self._sums is None:
            return dict(self._start)
        return dict(zip(self._names, self._sums.tolist(), strict=True))


def _sums_of_all(sums: list[dict[str, float]]) -> dict[str, float]:
    """The running sums of all ranks under names of their own: `loss`, and `loss@1` of rank 1."""
    return {
        f"{name}@{rank}" if rank else name: value
        for rank, own in enumerate(sums)
        for name, value in own.items()
    }


def _sums_of_rank(saved: dict[str, float]) -> dict[str, float]:
    """This rank's running sums again; where the number of ranks changed, the mean of all."""
    sums: dict[int, dict[str, float]] = {}
    for key, value in saved.items():
        name, _, rank = key.partition("@")
        sums.setdefault(int(rank or 0), {})[name] = value
    if len(sums) == current_world().world_size:
        return sums[current_world().rank]
    return {name: sum(own[name] for own in sums.values()) / len(sums) for name in sums.get(0, {})}

"""How many epochs of an architecture fit into a number of seconds on this machine."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

from serve.contract.digest import canonical_json
from serve.contract.files import write_atomic
from stillroom.sweep.subject import StudyData
from stillroom.sweep.trial import Stopwatch
from train.engine.callbacks import OnEpoch
from train.engine.progress import say
from train.fitting import fit_model
from train.options import TrainOptions

__all__ = ["epochs_within", "fitting_epochs"]

MEASURED = 2  # epochs: the first has the start-up in it


def epochs_within(
    budget_s: float, trial: Path, subject: StudyData, options: TrainOptions
) -> TrainOptions:
    """Options with as many epochs as the budget allows, one at least.

    The schedule must know its length beforehand, so two epochs are trained and thrown away to
    time them. The answer is kept in `trial`: a resumed sweep does not measure again.

    Args:
        budget_s: of the whole training, reading the images included.
        trial: folder of the training.
        subject: its images.
        options: their `epochs` are replaced; `head_epochs` count as whole ones.
    """
    path = trial / "budget.json"
    if path.is_file():
        return _with(options, json.loads(path.read_bytes())["epochs"])
    trial.mkdir(parents=True, exist_ok=True)
    epoch_s, start_up_s = _timed(trial, subject, options)
    epochs = fitting_epochs(
        budget_s,
        epoch_s=epoch_s,
        start_up_s=start_up_s,
        head_epochs=options.head_epochs,
        rounds=1 + options.restarts,
    )
    found = {"epochs": epochs, "epoch_s": epoch_s, "start_up_s": start_up_s}
    write_atomic(path, canonical_json(found))
    say(f"  {epoch_s:.1f} s an epoch: {epochs} epochs")
    return _with(options, epochs)


def fitting_epochs(
    budget_s: float, *, epoch_s: float, start_up_s: float, head_epochs: int, rounds: int
) -> int:
    """Epochs of each round that end within the budget; one at least."""
    left_s = budget_s - start_up_s - head_epochs * epoch_s
    return max(1, math.floor(left_s / (epoch_s * rounds)))


def _timed(trial: Path, subject: StudyData, options: TrainOptions) -> tuple[float, float]:
    """Seconds of an epoch, and before the first one; the training is thrown away."""
    say(f"timing {options.arch}")
    work = trial / "timing"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    watch = Stopwatch()
    short = replace(options, epochs=MEASURED, head_epochs=0, restarts=0, swa_epochs=0)
    fit_model(
        subject.dataset, short, seed=subject.recipe.seed, out=work, callbacks=[OnEpoch(watch)]
    )
    shutil.rmtree(work)
    return watch.epoch_s, watch.start_up_s


def _with(options: TrainOptions, epochs: int) -> TrainOptions:
    return replace(options, epochs=epochs, swa_epochs=min(options.swa_epochs, epochs))

"""How a training's steps may be computed, measured side by side on this machine."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from serve.contract.errors import DatasetError
from train.data.dataset import Dataset
from train.engine.progress import track
from train.engine.seed import cudnn_mode
from train.engine.trainer import Trainer
from train.fitting import phases_of, prepare_model, views_of
from train.loader.dataloader import feed
from train.loader.sampler import BatchSampler
from train.loader.views import Batch
from train.options import TrainOptions

__all__ = ["Choice", "advice", "measure_choices"]

STEPS = 4  # of one measurement
ROUNDS = 5  # of all choices in turn
WORTH_IT = 1.1  # times as fast in every round: less is not worth other numbers
FAILS = (RuntimeError, ImportError, OSError)  # of torch.compile, where it finds no compiler

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Choice:
    """One way to compute, and what it took.

    Args:
        precision: of the forward.
        compile: by torch.compile.
        deterministic: the GPU's repeatable kernels.
        rates: images a second, one a round; empty where it does not run here.
        start_s: until the end of the first step, compilation included.
        loss: of the last step: equal steps from equal weights.
        problem: why it does not run here.
    """

    precision: Precision
    compile: bool = False
    deterministic: bool = False
    rates: list[float] = field(default_factory=list)
    start_s: float = 0.0
    loss: float = 0.0
    problem: str = ""

    @property
    def overrides(self) -> str:
        """What a recipe says to get it."""
        named = {"compile": self.compile, "deterministic": self.deterministic}
        on = "".join(f" teacher.{name}=true" for name, chosen in named.items() if chosen)
        return f"teacher.precision={self.precision}{on}"


def measure_choices(
    dataset: Dataset, options: TrainOptions, *, seed: int, rounds: int = ROUNDS
) -> list[Choice]:
    """Time the steps of the last phase on batches in memory, each choice in each round.

    Args:
        dataset: its train split is used; nothing is kept.
        options: of the training; the first choice is what they ask for now.
        seed: of everything random.
        rounds: of all choices in turn.

    Raises:
        DatasetError: fewer images than one batch.
    """
    views = views_of(dataset, options, seed)
    order = BatchSampler(
        views.targets,
        options.batch_size,
        STEPS,
        seed,
        sizes_px=(options.train_size_px,),
        shards=views.shards,
    )
    if not order.per_epoch:
        raise DatasetError(
            f"{len(views)} training images are fewer than one batch of {options.batch_size}.",
            "Lower batch_size.",
        )
    batches = list(itertools.islice(feed(views, order, workers=0), STEPS))
    with tempfile.TemporaryDirectory() as folder:
        trials = [
            _Trial(choice, dataset, options, seed, Path(folder) / str(number))
            for number, choice in enumerate(_choices(options))
        ]
        for trial, _ in track(
            [(trial, n) for n in range(rounds + 1) for trial in trials],
            "timing",
            (rounds + 1) * len(trials),
            "rounds",
        ):
            trial.run(batches)
    return [trial.choice for trial in trials]


def advice(choices: Sequence[Choice]) -> str:
    """What to change: the fastest choice that beats the first in every round, or nothing."""
    now, *others = choices
    better = [c for c in others if _times(c, now) >= WORTH_IT]
    if not better:
        return f"Nothing is faster by {WORTH_IT - 1:.0%} in every round: leave it as it is."
    best = max(better, key=lambda choice: _times(choice, now))
    typical = statistics.median(best.rates) / statistics.median(now.rates)
    return f"{typical:.2f} times as fast: {best.overrides}"


def _times(choice: Choice, now: Choice) -> float:
    """How much faster in the round where it is least so; a deterministic one is not for speed."""
    if not choice.rates or choice.deterministic:
        return 0.0
    return min(a / b for a, b in zip(choice.rates, now.rates, strict=True))


def _choices(options: TrainOptions) -> list[Choice]:
    on_gpu = torch.cuda.is_available()
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "fp16") if on_gpu else ("fp32", "bf16")
    found = [Choice(p, compiled) for compiled in (False, True) for p in precisions]
    if on_gpu:
        found += [Choice(p, deterministic=True) for p in precisions]
    asked = options.precision
    if asked == "auto":
        asked = "bf16" if on_gpu else "fp32"
    now = Choice(asked, options.compile, options.deterministic)
    return [now, *(choice for choice in found if choice != now)]


class _Trial:
    """One choice under way; a choice that fails is left out of the rounds after."""

    def __init__(
        self, choice: Choice, dataset: Dataset, options: TrainOptions, seed: int, folder: Path
    ) -> None:
        self.choice = choice
        wanted = replace(
            options,
            weights="none",  # they take no time
            precision=choice.precision,
            compile=choice.compile,
            deterministic=choice.deterministic,
        )
        model = prepare_model(dataset, wanted, seed)
        phase = phases_of(dataset, model, wanted, None, seed)[-1]
        self._training = Trainer(
            phase.name, model, phase.objective, phase.policy, phase.plan, STEPS * 1000
        )
        folder.mkdir()
        self._training.resume(folder / "state")
        self._is_warm = False

    def run(self, batches: Sequence[Batch]) -> None:
        """A round; the first one warms up."""
        if self.choice.problem:
            return
        start_s = time.perf_counter()
        try:
            with cudnn_mode(deterministic=self.choice.deterministic):
                for batch in batches:
                    self._training.step(batch)
                self._training.look_back()
        except FAILS as error:
            problem = str(error).strip().splitlines()[0][:120]
            self.choice = replace(self.choice, problem=problem or type(error).__name__, rates=[])
            return
        wall_s = time.perf_counter() - start_s
        images = sum(len(batch.images) for batch in batches)
        if self._is_warm:
            self.choice.rates.append(images / wall_s)
        else:
            self.choice = replace(self.choice, start_s=wall_s, loss=self._training.loss)
        self._is_warm = True

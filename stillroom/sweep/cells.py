"""A fixed list of trainings, one after another: what all sweeps but the search consist of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.trial import TrialResult, train_trial
from train.data.dataset import Dataset
from train.engine.progress import say
from train.options import TrainOptions

__all__ = ["StudyCell", "train_cells"]


@dataclass(frozen=True)
class StudyCell:
    """One training of the list.

    Args:
        name: for people.
        dataset: train and val.
        options: of the training.
        seed: of everything random.
    """

    name: str
    dataset: Dataset
    options: TrainOptions
    seed: int


def train_cells(folder: SweepFolder, cells: Sequence[StudyCell]) -> list[TrialResult]:
    """Train what is not done yet; the outcome of each, in their order."""
    outcomes = []
    for number, cell in enumerate(cells):
        say(f"{number + 1} of {len(cells)}: {cell.name}")
        outcome = train_trial(folder.trial(number), cell.dataset, cell.options, seed=cell.seed)
        say(f"  val top-1 {outcome.top1:.1%} ({outcome.top1_low:.1%} to {outcome.top1_high:.1%})")
        outcomes.append(outcome)
    return outcomes

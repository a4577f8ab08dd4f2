"""`stillroom sweep search`: the teacher's options that are best on val."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.exceptions import TrialPruned

from serve.contract.errors import Interrupted, StillroomError, UsageError
from stillroom.run.recipe import recipe_text
from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.search.points import check_space, grid_points, recipe_at
from stillroom.sweep.search.results import write_search
from stillroom.sweep.search.space import Space, read_space
from stillroom.sweep.search.study import WHY, Sampler, Study
from stillroom.sweep.subject import StudyData, open_study_data
from stillroom.sweep.trial import STATE, abandon_trial, train_trial
from train.engine.progress import say
from train.options import TrainOptions

__all__ = ["SearchRequest", "search"]

SAMPLERS = ("tpe", "random", "grid")
BASE = "base.toml"


@dataclass(frozen=True)
class SearchRequest:
    """What the user asked for.

    Args:
        target: run or images.
        entries: key=value, key=a,b or key=low..high each.
        recipe: a file or a shipped recipe; None takes the run's.
        space: a TOML file; None for none.
        sampler: tpe, random or grid.
        trials: at most so many in all; 0 for all of a grid.
        timeout_s: no trial begins later than so long after this call's start; 0 for no limit.
        name: of the sweep's folder.
    """

    target: Path
    entries: tuple[str, ...]
    recipe: str | None = None
    space: Path | None = None
    sampler: str = "tpe"
    trials: int = 20
    timeout_s: float = 0.0
    name: str = "search"


def search(request: SearchRequest) -> Path:
    """Search, or go on with the search that is there.

    Returns:
        The page.

    Raises:
        RecipeError: the space does not fit the recipe; nothing was trained.
        UsageError: the folder holds another search.
        Interrupted: a signal came; the same command goes on.
        StillroomError: no trial could be trained.
    """
    deadline = time.monotonic() + request.timeout_s if request.timeout_s else float("inf")
    if request.sampler not in SAMPLERS:
        raise UsageError(f"No sampler {request.sampler!r}.", f"Samplers: {', '.join(SAMPLERS)}.")
    if not request.trials and not request.timeout_s and request.sampler != "grid":
        raise UsageError(
            f"Without --trials and --timeout-s a {request.sampler} search has no end.",
            "Give one of them.",
        )
    space = read_space(request.space, request.entries)
    subject = open_study_data(request.target, request.recipe, space.overrides)
    folder = SweepFolder.of(subject.run.path, request.name)
    sampler: Any = request.sampler
    _check(subject, space, sampler)
    with folder.opened(_plan(subject, space, sampler)):
        base = folder.write_text(BASE, recipe_text(subject.recipe))
        epochs = _epochs(subject.recipe.teacher)
        study = Study(folder.path, space, subject.recipe, sampler, epochs)
        try:
            wanted = min(request.trials or 10**9, study.size or 10**9)
            _Search(subject, folder, study, base).run(wanted, deadline)
        finally:  # what is finished is shown, even of a search that was stopped
            write_search(subject, folder, study, space, base)
            study.close()
    return folder.page


class _Search:
    """The loop: ask, train, tell."""

    def __init__(self, subject: StudyData, folder: SweepFolder, study: Study, base: Path) -> None:
        self._subject, self._folder, self._study, self._base = subject, folder, study, base

    def run(self, wanted: int, deadline: float) -> None:
        """Train until there are `wanted` trials or the time is over."""
        for old, new in self._study.mark_killed():
            say(f"trial {old} was stopped; trial {new.number} goes on with its values")
            self._take_over(old, new.number)
            self._train(new)
        while len(self._study.trials) < wanted and time.monotonic() < deadline:
            self._train(self._study.ask())
        reasons = [trial.user_attrs.get(WHY, "") for trial in self._study.trials]
        if reasons and all(reasons):
            raise StillroomError(f"No trial could be trained. The first: {reasons[0]}")

    def _take_over(self, old: int, new: int) -> None:
        """What a killed trial left to resume from goes to the trial in its place."""
        source, target = self._folder.trial(old), self._folder.trial(new)
        if (source / STATE).is_dir() and not target.exists():
            source.rename(target)
        shutil.rmtree(source, ignore_errors=True)

    def _train(self, trial: Any) -> None:
        values = ", ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        say(f"trial {trial.number}: {values}")
        folder = self._folder.trial(trial.number)
        try:
            options = recipe_at(self._base, trial.params).teacher
            outcome = train_trial(
                folder,
                self._subject.dataset,
                options,
                seed=self._subject.recipe.seed,  # the same for all: pairs differ by values alone
                listen=_Reporter(trial, options),
            )
        except TrialPruned:
            self._study.tell_pruned(trial.number)
            abandon_trial(folder)
            say("  given up: behind the others at this epoch")
        except Interrupted:
            raise
        except StillroomError as error:
            self._study.tell_failed(trial, error.message)
            abandon_trial(folder)
            say(f"  failed: {error.message}")
        else:
            self._study.tell(trial.number, outcome.top1)
            low, high = outcome.top1_low, outcome.top1_high
            say(f"  val top-1 {outcome.top1:.1%} ({low:.1%} to {high:.1%})")


class _Reporter:
    """Tells the study each epoch's val top-1, and gives the trial up where the pruner says so."""

    def __init__(self, trial: Any, options: TrainOptions) -> None:
        self._trial, self._options = trial, options
        seen = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        self._seen = set(seen)  # by the training that this one takes the place of

    def __call__(self, record: dict[str, Any]) -> None:
        step = epochs_before(record["phase"], self._options) + record["epoch"]
        if step not in self._seen:
            self._trial.report(record["val_top1"], step)
        # At its last epoch a trial is as good as paid for, and its figure is worth having.
        if step < _epochs(self._options) and self._trial.should_prune():
            raise TrialPruned


def epochs_before(phase: str, options: TrainOptions) -> int:
    """Epochs of a training before a phase: head, all, again-1 and so on."""
    if phase == "head":
        return 0
    rounds = int(phase.partition("-")[2] or 0)
    return options.head_epochs + rounds * options.epochs


def _check(subject: StudyData, space: Space, sampler: Sampler) -> None:
    """Everything that can be known to be wrong before the folder is touched."""
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        base = Path(scratch) / BASE
        base.write_text(recipe_text(subject.recipe), encoding="utf-8")
        check_space(space, base)
        if sampler == "grid":
            for point in grid_points(space):
                recipe_at(base, point)


def _plan(subject: StudyData, space: Space, sampler: Sampler) -> dict[str, Any]:
    recipe = subject.recipe
    fixed = {k: v for k, v in asdict(recipe.teacher).items() if k not in ("workers",)}
    return {
        "kind": "search",
        "sampler": sampler,
        "seed": recipe.seed,
        "teacher": fixed,
        "space": {key: asdict(value) for key, value in space.dimensions.items()},
        "study": asdict(space.study),
        "images": subject.digest,
    }


def _epochs(options: TrainOptions) -> int:
    return options.head_epochs + options.epochs * (1 + options.restarts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

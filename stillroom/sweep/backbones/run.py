"""`stillroom sweep backbones`: several architectures for the teacher under one budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from export.model_latency import compare_latency
from stillroom.sweep.backbones.budget import epochs_within
from stillroom.sweep.backbones.facts import Backbone, Backbones
from stillroom.sweep.backbones.page import render_backbones
from stillroom.sweep.cells import StudyCell, train_cells
from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.lists import names
from stillroom.sweep.subject import StudyData, open_study_data
from stillroom.sweep.trial import TrialResult, compare_trials
from train.engine.progress import say
from train.fitting import prepare_model
from train.options import TrainOptions

__all__ = ["BackbonesRequest", "compare_backbones"]


@dataclass(frozen=True)
class BackbonesRequest:
    """What the user asked for.

    Args:
        target: run or images.
        overrides: key=value each.
        archs: "arch,arch:weights,..."; without weights the recipe's are taken.
        budget_s: seconds of training for each; 0 gives each the recipe's epochs.
        recipe: a file or a shipped recipe; None takes the run's.
        name: of the sweep's folder.
        keep: whether all checkpoints stay, not the best one's alone.
    """

    target: Path
    overrides: tuple[str, ...]
    archs: str
    budget_s: float = 0.0
    recipe: str | None = None
    name: str = "backbones"
    keep: bool = False


def compare_backbones(request: BackbonesRequest) -> Path:
    """Train each, measure all side by side.

    Returns:
        The page.

    Raises:
        UsageError: an architecture that timm does not have; nothing was trained.
        Interrupted: a signal came; the same command goes on.
    """
    subject = open_study_data(request.target, request.recipe, request.overrides)
    candidates = _candidates(request, subject.recipe.teacher)
    for options in candidates:  # a wrong name is known before the first hour is spent
        prepare_model(subject.dataset, options, subject.recipe.seed)
    folder = SweepFolder.of(subject.run.path, request.name)
    with folder.opened(_plan(subject, request, candidates)):
        if request.budget_s:
            candidates = [
                epochs_within(request.budget_s, folder.trial(number), subject, options)
                for number, options in enumerate(candidates)
            ]
        seed = subject.recipe.seed
        cells = [StudyCell(options.arch, subject.dataset, options, seed) for options in candidates]
        outcomes = train_cells(folder, cells)
        latency = _latency(folder, subject, candidates)
        result = _result(folder, request, candidates, outcomes, latency)
        if not request.keep:
            folder.keep_checkpoints({result.best.number})
        folder.write(
            {
                "kind": "backbones",
                "judged_on": "val",
                "test_photographs_held_back": subject.held_back,
                "budget": result.budget,
                "sentences": result.sentences(),
                "best": result.best.arch,
            },
            [entry.row() for entry in result.entries],
        )
        folder.write_page(render_backbones(result, subject, request.name))
    return folder.page


def _candidates(request: BackbonesRequest, teacher: TrainOptions) -> list[TrainOptions]:
    candidates = []
    for entry in names(request.archs, "--archs"):
        arch, _, weights = entry.partition(":")
        candidates.append(replace(teacher, arch=arch, weights=weights or teacher.weights))
    return candidates


def _latency(
    folder: SweepFolder, subject: StudyData, candidates: Sequence[TrainOptions]
) -> list[dict[str, Any]]:
    """All in one go, so that they can be compared; measured once."""
    path = folder.path / "latency.json"
    keys = [str(number) for number in range(len(candidates))]
    if not path.is_file():
        say("latency of each")
        folders = {key: folder.trial(int(key)) for key in keys}
        compare_latency(folders, opset=subject.recipe.export.opset, out=folder.path)
    found = json.loads(path.read_bytes())
    return [found[key] for key in keys]


def _result(
    folder: SweepFolder,
    request: BackbonesRequest,
    candidates: Sequence[TrainOptions],
    outcomes: Sequence[TrialResult],
    latency: Sequence[dict[str, Any]],
) -> Backbones:
    best = max(range(len(outcomes)), key=lambda i: (outcomes[i].top1, -outcomes[i].loss))
    entries = [
        Backbone(
            number,
            options.arch,
            options.weights,
            outcome,
            times,
            None if number == best else compare_trials(folder.trial(best), folder.trial(number)),
        )
        for number, (options, outcome, times) in enumerate(
            zip(candidates, outcomes, latency, strict=True)
        )
    ]
    budget = "equal epochs"
    if request.budget_s:
        budget = f"equal time: {request.budget_s:g} s of training each"
    return Backbones(entries, entries[best], budget)


def _plan(
    subject: StudyData, request: BackbonesRequest, candidates: Sequence[TrainOptions]
) -> dict[str, Any]:
    fixed = asdict(subject.recipe.teacher)
    for key in ("arch", "weights", "workers"):
        del fixed[key]
    return {
        "kind": "backbones",
        "seed": subject.recipe.seed,
        "teacher": fixed,
        "archs": [f"{options.arch}:{options.weights}" for options in candidates],
        "budget_s": request.budget_s,
        "images": subject.digest,
    }

"""What a search found: results.json, results.csv, best.toml and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stillroom.command_text import command_text
from stillroom.page.format import interval, percent
from stillroom.report.paired import Paired
from stillroom.run.recipe import recipe_text
from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.search.facts import SearchResult, TrialRow
from stillroom.sweep.search.page import render_search
from stillroom.sweep.search.points import recipe_at
from stillroom.sweep.search.space import Space
from stillroom.sweep.search.study import MIN_FOR_IMPORTANCE, OWN, WHY, Study
from stillroom.sweep.subject import StudyData
from stillroom.sweep.trial import TrialResult, compare_trials, read_outcome

__all__ = ["write_search"]

BEST = "best.toml"


def write_search(
    subject: StudyData, folder: SweepFolder, study: Study, space: Space, base: Path
) -> SearchResult:
    """Write all files of a search as it stands now."""
    rows = _rows(folder, study)
    best = _best(rows)
    result = SearchResult(
        rows, best, *_comparisons(folder, rows, best), importances=study.importances()
    )
    judge = command_text(
        *("run", subject.run.photos_or("PHOTOS"), "--run", f"{subject.run.path}-best"),
        *("--recipe", folder.path / BEST),
    )
    sentences = _sentences(result, judge)
    if best is not None:
        head = f"# Best of {result.count('complete')} trials on val; stillroom run --recipe\n\n"
        folder.write_text(BEST, head + recipe_text(recipe_at(base, best.values)))
        if space.study.keep == "best":
            folder.keep_checkpoints({best.number})
    folder.write(
        {
            "kind": "search",
            "judged_on": "val",
            "test_photographs_held_back": subject.held_back,
            "sentences": sentences,
            "best": None if best is None else best.number,
            "importances": result.importances,
        },
        [_flat(row) for row in rows],
    )
    folder.write_page(render_search(result, sentences, subject, space, folder.path.name))
    return result


def _rows(folder: SweepFolder, study: Study) -> list[TrialRow]:
    rows = []
    for trial in study.trials:
        reported = trial.intermediate_values
        why = trial.user_attrs.get(WHY, "")
        state = trial.state.name.lower()
        rows.append(
            TrialRow(
                number=trial.number,
                state={"fail": "failed"}.get(state, state),
                values=dict(trial.params),
                outcome=read_outcome(folder.trial(trial.number)) if state == "complete" else None,
                own=OWN in trial.user_attrs,
                why=why,
                epochs=len(reported),
                last_top1=reported[max(reported)] if reported else None,
            )
        )
    return rows


def _best(rows: list[TrialRow]) -> TrialRow | None:
    """The highest top-1; of equal ones the lowest loss."""
    done = [row for row in rows if row.outcome is not None]
    return max(done, key=lambda row: _rank(row.outcome), default=None)


def _rank(outcome: TrialResult | None) -> tuple[float, float]:
    return (0.0, 0.0) if outcome is None else (outcome.top1, -outcome.loss)


def _comparisons(
    folder: SweepFolder, rows: list[TrialRow], best: TrialRow | None
) -> tuple[Paired | None, int]:
    if best is None:
        return None, 0
    against_own, equals = None, 0
    for row in rows:
        if row.outcome is None or row is best:
            continue
        paired = compare_trials(folder.trial(best.number), folder.trial(row.number))
        equals += not paired.shown
        if row.own:
            against_own = paired
    return against_own, equals


def _sentences(result: SearchResult, judge: str) -> list[str]:
    best = result.best
    if best is None or best.outcome is None:
        return ["No trial is complete yet."]
    outcome = best.outcome
    spread = interval(outcome.top1_low, outcome.top1_high)
    sentences = [
        f"Trial {best.number} is best: {percent(outcome.top1)} ({spread}) of {outcome.n} "
        "validation images."
    ]
    if best.own:
        sentences.append("No trial was better than the recipe's own values.")
    if result.against_own is not None:
        sentences.append(f"Against the recipe's own values: {result.against_own.describe()}.")
    if result.equals:
        sentences.append(
            f"{result.equals} of the other {result.count('complete') - 1} complete trials cannot "
            "be told from it on these images (paired, p at least 0.05)."
        )
    if result.importances:
        key, share = next(iter(result.importances.items()))
        sentences.append(f"What matters most is {key}: {percent(share, 0)} of the importance.")
    elif len(best.values) > 1:
        sentences.append(
            f"Importances need {MIN_FOR_IMPORTANCE} complete trials that differ; there are "
            f"{result.count('complete')}."
        )
    sentences.append(
        "The best of many is chosen on the images it is judged on, so its figure is "
        f"flattered. Judge it once on test: {judge}"
    )
    return sentences


def _flat(row: TrialRow) -> dict[str, Any]:
    outcome = row.outcome
    return {
        "trial": row.number,
        "state": row.state,
        "own_values": row.own,
        **row.values,
        "val_top1": outcome.top1 if outcome else row.last_top1,
        "val_top1_low": outcome.top1_low if outcome else None,
        "val_top1_high": outcome.top1_high if outcome else None,
        "val_loss": outcome.loss if outcome else None,
        "n": outcome.n if outcome else None,
        "epochs": outcome.epochs if outcome else row.epochs,
        "epoch_s": outcome.epoch_s if outcome else None,
        "wall_s": outcome.wall_s if outcome else None,
        "why": row.why,
    }

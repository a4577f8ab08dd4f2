"""Two runs on the same test images, with paired statistics: what `stillroom compare` prints."""

from __future__ import annotations

from pathlib import Path

from serve.contract.errors import RunError
from stillroom.command_text import command_text
from stillroom.console import show
from stillroom.report.comparison import Comparison, compare
from stillroom.report.paired import paired_interval
from stillroom.run.folder import RunFolder
from stillroom.run.status import stale_note
from train.evaluation import Predictions, read_predictions

__all__ = ["compare_runs"]

MODELS = ("teacher", "baseline", "student", "fixres")


def compare_runs(first: Path, second: Path) -> None:
    """Print the difference second - first of every model that both runs have; mark stale ones.

    Raises:
        RunError: a folder holds no run or a damaged one, or the runs share no model or test image.
    """
    for path in (first, second):
        if not RunFolder(path).record():
            raise RunError(
                f"{path} holds no run.",
                f"Make one: {command_text('run', 'PHOTOS', '--run', path)}",
            )
    lines = []
    for name in MODELS:
        if all((folder / name).exists() for folder in (first, second)):
            before, after = (_test_predictions(RunFolder(f), name) for f in (first, second))
            lines.append(_line(name, *_same_images(before, after)))
            notes = [note for f in (first, second) if (note := stale_note(f, name))]
            lines += [f"    {note}" for note in notes]
    if not lines:
        raise RunError(
            f"{first} and {second} have no trained model in common.",
            "Run both at least until teacher.",
        )
    show(f"top-1 on the test images of both runs; {second} minus {first}")
    show("\n".join(lines))


def _test_predictions(run: RunFolder, name: str) -> Predictions:
    if problem := run.problem(name):
        raise RunError(
            f"{run.stage(name)} cannot be compared: {problem}.",
            f"Build it again: {command_text('report', run.path)}",
        )
    return read_predictions(run.stage(name) / "predictions.csv").of_split("test")


def _same_images(before: Predictions, after: Predictions) -> tuple[Predictions, Predictions]:
    positions = {photo.sha256: i for i, photo in enumerate(before.photos)}
    shared = [
        (positions[photo.sha256], i)
        for i, photo in enumerate(after.photos)
        if photo.sha256 in positions and before.photos[positions[photo.sha256]].label == photo.label
    ]
    if not shared:
        raise RunError("The runs have no test image in common.", "Compare runs of one dataset.")
    chosen = [list(column) for column in zip(*shared, strict=True)]
    first, second = (
        Predictions([p.photos[i] for i in rows], p.labels, p.logits[rows])
        for p, rows in zip((before, after), chosen, strict=True)
    )
    return first, second


def _line(name: str, before: Predictions, after: Predictions) -> str:
    result: Comparison = compare(name, after, before)
    right = [p.predicted == p.targets for p in (before, after)]
    low, high = paired_interval(*right)
    return (
        f"  {name:9} {100 * right[0].mean():5.1f} % -> {100 * right[1].mean():5.1f} %  "
        f"{100 * result.difference:+5.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), "
        f"n = {result.n}, McNemar p = {result.p:.2g}: {result.reading}"
    )

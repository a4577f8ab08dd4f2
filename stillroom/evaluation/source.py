"""What is evaluated: a stage of a run, or a predictions.csv that stands alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serve.contract.digest import sha256_of_file
from serve.contract.errors import RunError, UsageError
from stillroom.command_text import command_text
from stillroom.evaluation.reading import read_checked
from stillroom.run.folder import RunFolder
from stillroom.run.recipe import load_recipe
from stillroom.run.status import stale_note
from train.data.source import origin_of, root_of
from train.evaluation import Predictions

__all__ = ["STAGES", "EvaluationSource", "open_source"]

STAGES = ("teacher", "student", "fixres", "baseline")
PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class EvaluationSource:
    """The answers of a model, and where the rest of it is.

    Args:
        title: of the page: the run and the stage, or the file.
        predictions: of all splits.
        digest: hex sha256 of predictions.csv.
        checkpoint: folder of the model; None where there is none.
        photos: the dataset's folder; None where it is unknown or gone.
        out: where results go unless the user says otherwise.
        run: that it is of; None for a file that stands alone.
        stage: of the run.
        why: what made this stage the one that is shown; empty where the user named it.
    """

    title: str
    predictions: Predictions
    digest: str
    checkpoint: Path | None
    photos: Path | None
    out: Path
    run: Path | None = None
    stage: str = ""
    why: str = ""

    def note(self) -> str:
        """What the user should know before the figures; empty where there is nothing."""
        others = "; another: --stage STAGE" if self.why else ""
        shown = f"{self.stage}: {self.why}{others}" if self.why else ""
        stale = stale_note(self.run, self.stage) if self.run else ""
        return "\n".join(filter(None, (shown, stale)))

    def of_split(self, split: str) -> Predictions:
        """The answers on one split.

        Raises:
            UsageError: there are none.
        """
        chosen = self.predictions.of_split(split)
        if not chosen.photos:
            splits = sorted({photo.split for photo in self.predictions.photos})
            raise UsageError(
                f"{self.title} has no predictions on {split}, only on {', '.join(splits)}.",
                f"Choose one: --split {splits[0]}",
            )
        return chosen


def open_source(target: Path, stage: str | None, photos: Path | None) -> EvaluationSource:
    """Find and read the predictions.

    Args:
        target: a run folder, or a predictions.csv, in a run or anywhere.
        stage: of STAGES; None takes what is exported, or will be, or the first that there is.
        photos: the dataset's folder or list; None takes the run's.

    Raises:
        UsageError: nothing to evaluate there, or a damaged file.
    """
    photos = root_of(photos) if photos else None
    if photos is not None and not photos.is_dir():
        raise UsageError(f"No such folder: {photos}.", "Name the dataset's folder with --photos.")
    if target.is_file():
        run = RunFolder(target.parent.parent)
        if target.name != PREDICTIONS or target.parent.name not in STAGES or not _is_run(run):
            if stage is not None:
                raise UsageError(f"--stage {stage} is of a run; {target} is a file.", "Leave it.")
            return _open_file(target, photos)
        return _open_stage(run, target.parent.name, "", photos)
    if not target.is_dir():
        raise UsageError(f"No such run or file: {target}.", "stillroom evaluate RUN")
    run = RunFolder(target)
    return _open_stage(run, *_pick_stage(run, stage), photos)


def _pick_stage(run: RunFolder, stage: str | None) -> tuple[str, str]:
    """The stage, and why this one where the user named none."""
    if stage is not None and stage not in STAGES:
        raise UsageError(f"No stage {stage!r} is evaluated.", f"Stages: {', '.join(STAGES)}.")
    there = [name for name in STAGES if (run.stage(name) / PREDICTIONS).is_file()]
    if not there:
        raise RunError(
            f"{run.path} holds no trained model.",
            f"Train one: {command_text('train', run.photos_or('PHOTOS'), '--run', run.path)}",
        )
    if stage is None:
        exported = exported_stage(run)
        if exported in there:
            return exported, "the model of the artifact, which predict and serve use"
        planned = load_recipe(run.recipe_path).export.source if run.recipe_path.exists() else ""
        wanted = [name for name in (planned, "student", *there) if name in there]
        why = "the model that export takes" if wanted[0] == planned else "the last that was trained"
        return wanted[0], f"{why}; nothing is exported yet"
    if stage not in there:
        raise RunError(
            f"{run.path} holds no {stage}.", f"It has {', '.join(there)}: --stage {there[0]}"
        )
    return stage, ""


def _open_stage(run: RunFolder, stage: str, why: str, photos: Path | None) -> EvaluationSource:
    folder = run.stage(stage)
    recorded = root_of(origin_of(run.record().get("photos", "."))) if _is_run(run) else Path()
    if photos is None and recorded.is_absolute() and recorded.is_dir():
        photos = recorded
    return EvaluationSource(
        title=f"{run.path.resolve().name} · {stage}",
        predictions=read_checked(folder / PREDICTIONS),
        digest=sha256_of_file(folder / PREDICTIONS),
        checkpoint=folder if (folder / "checkpoint.safetensors").is_file() else None,
        photos=photos,
        out=run.path / "evaluation" / stage,
        run=run.path if _is_run(run) else None,
        stage=stage,
        why=why,
    )


def exported_stage(run: RunFolder) -> str:
    """Folder of the model that the artifact holds; empty where nothing is exported."""
    options = (run.manifest("artifact") or {}).get("options", {})
    return str(options.get("source", ""))


def _open_file(path: Path, photos: Path | None) -> EvaluationSource:
    beside = path.resolve().parent
    return EvaluationSource(
        title=path.name,
        predictions=read_checked(path),
        digest=sha256_of_file(path),
        checkpoint=beside if (beside / "checkpoint.safetensors").is_file() else None,
        photos=photos,
        out=path.with_name(f"{path.stem}-evaluation"),
    )


def _is_run(run: RunFolder) -> bool:
    return (run.path / "run.json").is_file() and bool(run.record())

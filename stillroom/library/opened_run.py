"""`stillroom.open_run`: what a run folder holds, to be read in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from serve.contract.artifact import Artifact, open_artifact
from serve.contract.errors import RunError
from serve.model.predictions import top_predictions
from stillroom.command_text import command_text
from stillroom.library.rows import ImagePrediction, LabelledPrediction, labelled
from stillroom.run.folder import RunFolder
from stillroom.run.pipeline import PIPELINE
from stillroom.run.status import State, read_run_state

__all__ = ["OpenedRun", "StageSummary", "open_run"]

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class StageSummary:
    """One stage of a run.

    Args:
        name: as the command line says it.
        folder: where its files are, or would be.
        state: done, stale, damaged, half done, running now, not built yet or not asked for.
        words: the state with its reason.
        digest: of its manifest; empty without one.
    """

    name: str
    folder: Path
    state: State
    words: str
    digest: str


def open_run(folder: str | PathLike[str]) -> OpenedRun:
    """Open a run to read it; nothing is built or changed.

    Raises:
        RunError: the folder holds no run.
    """
    run = RunFolder(Path(folder))
    if not run.record():
        raise RunError(
            f"{run.path} holds no run.",
            f"Make one: {command_text('run', 'PHOTOS', '--run', run.path)}",
        )
    return OpenedRun(run)


class OpenedRun:
    """A run folder. Made by `open_run`; each question reads the files anew.

    Attributes:
        path: the folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.path = run.path
        self._run = run

    @property
    def stages(self) -> tuple[StageSummary, ...]:
        """Every stage in the order of building, with its state as `stillroom status` says it."""
        return tuple(
            StageSummary(
                one.stage.name, self._run.stage(one.stage.folder), one.state, one.words, one.digest
            )
            for one in read_run_state(PIPELINE, self._run).stages
        )

    @property
    def artifact(self) -> Artifact:
        """The fp32 artifact, verified.

        Raises:
            ArtifactError: there is none yet, or it is damaged.
        """
        return open_artifact(self.path / "artifact")

    def metrics(self, stage: str) -> Mapping[str, Any]:
        """Headline figures of a published stage, such as `test_top1` of a model.

        Raises:
            RunError: the stage is not built.
            UsageError: no stage of that name.
        """
        manifest = self._run.manifest(PIPELINE[stage].folder)
        if manifest is None:
            raise self._not_built(stage)
        metrics: Mapping[str, Any] = manifest["metrics"]
        return metrics

    def predictions(
        self, stage: str, *, split: str | None = None, top_k: int | None = None
    ) -> list[LabelledPrediction]:
        """What a trained model predicted for the images of the run. Needs the `train` extra.

        Args:
            stage: teacher, student, fixres or baseline.
            split: train, val or test; None takes all.
            top_k: how many labels to keep of each; None keeps all.

        Raises:
            RunError: the stage is not built, or has no predictions.
            UsageError: no stage of that name.
        """
        from train.evaluation import read_predictions

        path = self._run.stage(PIPELINE[stage].folder) / PREDICTIONS
        if not path.is_file():
            raise self._not_built(stage)
        found = read_predictions(path)
        kept = min(top_k or len(found.labels), len(found.labels))
        return [
            labelled(
                ImagePrediction.of(image.path, top_predictions(logits, found.labels, kept)),
                image.label,
                image.split,
            )
            for image, logits in zip(found.photos, found.logits, strict=True)
            if split in (None, image.split)
        ]

    def __repr__(self) -> str:
        return f"<OpenedRun {self.path}>"

    def _not_built(self, stage: str) -> RunError:
        photos = self._run.photos_or("PHOTOS")
        return RunError(
            f"{self.path} holds no {stage} with such results.",
            f"Build it: {command_text('run', photos, '--run', self.path, '--until', stage)}",
        )

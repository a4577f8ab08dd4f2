"""Everything the report says, read once from the files of a run."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.report.models import ModelRow, read_json, read_models
from stillroom.run.folder import RunFolder
from stillroom.run.stage_graph import Context
from train.data.images import LabelledImage, read_index
from train.evaluation import Predictions, read_predictions

__all__ = ["Facts", "StageRecord", "read_facts", "read_flips"]

TRAINED = ("teacher", "baseline", "student", "fixres")


@dataclass(frozen=True)
class StageRecord:
    """One link of the hash chain.

    Args:
        name: of the stage.
        folder: in the run.
        digest: hex sha256 of its manifest.
        parents: digest by stage name.
        wall_s: time of the build.
        peak_mib: largest memory of the process up to the end of the stage.
    """

    name: str
    folder: str
    digest: str
    parents: dict[str, str]
    wall_s: float | None
    peak_mib: float | None


@dataclass(frozen=True)
class Facts:
    """A run, read.

    Args:
        name: of the model.
        run_name: of the run's folder.
        models: rows of the table, the teacher first.
        manifest: of the artifact.
        photos: index.csv.
        audit: audit.json.
        scores: evaluation.json of the exported model, test split.
        predictions: on the test split, by stage folder.
        parity: parity.json.
        flips: rows of flips.csv.
        http: http_parity.json.
        loads: summaries of the load tests: closed and open.
        stages: the chain, oldest first.
        recipe: resolved, TOML.
    """

    name: str
    run_name: str
    models: tuple[ModelRow, ...]
    manifest: dict[str, Any]
    photos: list[LabelledImage]
    audit: dict[str, Any]
    scores: dict[str, Any]
    predictions: dict[str, Predictions]
    parity: dict[str, Any]
    flips: list[dict[str, str]]
    http: dict[str, Any]
    loads: dict[str, dict[str, Any]]
    stages: tuple[StageRecord, ...]
    recipe: str

    @property
    def source(self) -> str:
        """Folder of the exported model."""
        return str(self.manifest["options"]["source"])

    @property
    def exported(self) -> ModelRow:
        """The model in the artifact."""
        return self.model(self.source)

    def model(self, key: str) -> ModelRow:
        """One row of the table."""
        return next(model for model in self.models if model.key == key)


def read_facts(context: Context) -> Facts:
    """Read the files of a run whose stages before the report are done."""
    run = context.run
    manifest = read_json(run.stage("artifact") / "manifest.json")
    source = manifest["options"]["source"]
    return Facts(
        name=context.name,
        run_name=run.path.resolve().name,
        models=read_models(run, source),
        manifest=manifest,
        photos=read_index(run.stage("data") / "index.csv"),
        audit=read_json(run.stage("data") / "audit.json"),
        scores=read_json(run.stage(source) / "evaluation.json")["test"],
        predictions={
            key: read_predictions(run.stage(key) / "predictions.csv").of_split("test")
            for key in TRAINED
        },
        parity=read_json(run.stage("artifact") / "parity.json"),
        flips=read_flips(run.stage("artifact") / "flips.csv"),
        http=read_json(run.stage("http") / "http_parity.json"),
        loads={mode: _read_load(context, mode) for mode in ("closed", "open")},
        stages=_read_chain(run),
        recipe=run.recipe_path.read_text(encoding="utf-8"),
    )


def read_flips(path: Path) -> list[dict[str, str]]:
    """Rows of a flips.csv."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read_load(context: Context, mode: str) -> dict[str, Any]:
    """A load summary; its warnings name images as the dataset does, not as the disk does."""
    summary = read_json(context.run.stage("loadtest") / mode / "summary.json")
    root = f"{context.photos}/"
    return {**summary, "warnings": [text.replace(root, "") for text in summary["warnings"]]}


def _read_chain(run: RunFolder) -> tuple[StageRecord, ...]:
    # An earlier report may be in the record; this one must not depend on it.
    return tuple(
        _read_stage(run, link) for link in run.record()["chain"] if link["folder"] != "report"
    )


def _read_stage(run: RunFolder, link: dict[str, Any]) -> StageRecord:
    path = run.stage(link["folder"]) / "runtime.json"
    runtime = read_json(path) if path.exists() else {}
    return StageRecord(
        name=link["stage"],
        folder=link["folder"],
        digest=link["digest"],
        parents=link["parents"],
        wall_s=runtime.get("wall_s"),
        peak_mib=runtime.get("peak_rss_mib"),
    )

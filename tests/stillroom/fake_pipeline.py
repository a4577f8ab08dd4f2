"""The real pipeline with builders that write small files: for whole commands in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from loadtest.plan.slo import Slo
from serve.contract.digest import canonical_json
from serve.contract.errors import Interrupted
from stillroom.run.pipeline import PIPELINE
from stillroom.run.stage_graph import Built, Context, Graph, Stage
from tests.loadtest.hand_made import steady, summary_of
from train.data.images import labels_of, read_index
from train.evaluation import Predictions, write_predictions

MODELS = ("teacher", "student", "fixres", "baseline")


class FakePipeline:
    """Stages that are built by a word.

    Args:
        fixres_kept: whether FixRes is kept: fixres or student.
    """

    def __init__(self, fixres_kept: str = "fixres") -> None:
        self.fixres_kept = fixres_kept
        self.stop_in = ""  # the stage that is interrupted after step 10
        self.watch = None  # called with the context of each stage that is built
        stages = tuple(
            stage if stage.name == "audit" else replace(stage, build=self._builder(stage))
            for stage in PIPELINE
        )
        aliases = {
            "train": "teacher",
            "compress": "baseline",
            "serve": "http",
            "ablate": "ablation",
        }
        self.graph = Graph(stages, aliases)

    def _builder(self, stage: Stage):
        def build(context: Context) -> Built:
            return self._build(stage, context)

        return build

    def _build(self, stage: Stage, context: Context) -> Built:
        if self.watch is not None:
            self.watch(stage, context)
        if stage.name == self.stop_in:
            (context.out / ".state-000000010").mkdir()
            raise Interrupted("Stopped.", "Run the same command again to go on.")
        (context.out / "options.json").write_bytes(canonical_json(stage.options(context.recipe)))
        if stage.name == "ablation":
            (context.out / "table.md").write_text(f"{context.recipe.student.epochs} epochs\n")
        if stage.name == "loadtest":
            _write_loads(context)
        if stage.name not in MODELS:
            metrics, extra = _others(stage)
            if "parity" in extra:
                (context.out / "parity.json").write_bytes(canonical_json(extra["parity"]))
            return Built(metrics, extra)
        epochs = context.recipe.teacher.epochs if stage.name == "teacher" else None
        top1 = (epochs or context.recipe.student.epochs) / 100
        _write_answers(context, stage.name)
        fixres = {"fixres": {"kept": self.fixres_kept}} if stage.name == "fixres" else {}
        low_high = {"test_top1_low": top1, "test_top1_high": top1}
        return Built({"test_top1": top1, **low_high, "parameters": 1e6, "flops": 1e9}, fixres)


def _others(stage: Stage):
    if stage.folder.startswith("artifact"):
        parity = {"status": "passed", "flips": 0, "images": 9, "snr_db": 99.0}
        return {}, {"parity": parity}
    figures = {"agree": 9, "images": 9, "open_rps": 77.0, "open_p99_ms": 5.0, "closed_rps": 88.0}
    return figures, {}


def _write_loads(context: Context) -> None:
    for mode in ("closed", "open"):
        (context.out / mode).mkdir()
        load = summary_of(steady(), Slo(99, 50))
        (context.out / mode / "summary.json").write_bytes(canonical_json(load))


def _write_answers(context: Context, name: str) -> None:
    index = read_index(context.run.stage("data") / "index.csv")
    photos = [photo for photo in index if photo.split != "train"]
    labels = labels_of(index)
    logits = np.random.default_rng(len(name)).normal(0, 1, (len(photos), len(labels)))
    write_predictions(
        Path(context.out) / "predictions.csv",
        Predictions(photos, labels, logits.astype(np.float32)),
    )

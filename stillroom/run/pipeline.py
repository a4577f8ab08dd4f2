"""The pipeline: every stage of a run, what its result depends on, and by name what builds it.

A builder is named as "module:function" and imported when its stage is built: commands that only
look stay fast, and a server installation without torch can use them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from export.options import REDUCED
from stillroom.run.recipe import Recipe
from stillroom.run.stage_graph import Built, Context, Graph, Stage

__all__ = ["PIPELINE"]

TRAINING = "stillroom.run.stages.training"
ARTIFACT = "stillroom.run.stages.artifact"


def _precision_builder(precision: str) -> Callable[[Context], Built]:
    def build(context: Context) -> Built:
        from stillroom.run.stages.artifact import build_precision

        return build_precision(context, precision)

    return build


def _export_options(precision: str) -> Callable[[Recipe], dict[str, Any]]:
    def options(recipe: Recipe) -> dict[str, Any]:
        from export.options import deciding_export

        return {**deciding_export(recipe.export, precision), "name": recipe.name}

    return options


def _precision_stage(precision: str) -> Stage:
    return Stage(
        precision,
        f"artifact-{precision}",
        ("audit", "export"),
        _export_options(precision),
        _precision_builder(precision),
        asked=lambda recipe: precision in recipe.export.precisions,
        kind="artifact",
    )


def _training_options(section: str) -> Any:
    """Options of a training stage without those that cannot change its result."""

    def options(recipe: Recipe) -> dict[str, Any]:
        from train.options import deciding

        return deciding(getattr(recipe, section))

    return options


def _student_options(recipe: Recipe) -> dict[str, Any]:
    from compress.options import deciding_distil

    return {
        "student": _training_options("student")(recipe),
        "distil": deciding_distil(recipe.distil),
    }


def _ablation_options(recipe: Recipe) -> dict[str, Any]:
    return {
        **_student_options(recipe),
        "fixres": asdict(recipe.fixres),
        "ablation": asdict(recipe.ablation),
        "opset": recipe.export.opset,
    }


def _audit_options(recipe: Recipe) -> dict[str, Any]:
    from train.options import as_json

    values = as_json(recipe.data)
    del values["cache_mib"]
    return values


PIPELINE = Graph(
    (
        Stage(
            "audit",
            "data",
            (),
            _audit_options,
            "stillroom.run.stages.data:build_audit",
            version=2,  # near-duplicates stay on one side of the split
        ),
        Stage(
            "teacher",
            "teacher",
            ("audit",),
            _training_options("teacher"),
            f"{TRAINING}:build_teacher",
            resumable=True,
            section="teacher",
        ),
        Stage(
            "student",
            "student",
            ("audit", "teacher"),
            _student_options,
            f"{TRAINING}:build_student",
            resumable=True,
            section="student",
        ),
        Stage(
            "fixres",
            "fixres",
            ("audit", "student"),
            lambda recipe: asdict(recipe.fixres),
            f"{TRAINING}:build_fixres",
            resumable=True,
            section="fixres",
            version=3,  # kept where it is better on val: by top-1, then by the loss
        ),
        Stage(
            "baseline",
            "baseline",
            ("audit",),
            _training_options("student"),
            f"{TRAINING}:build_baseline",
            resumable=True,
            section="student",
        ),
        Stage(
            "export",
            "artifact",
            ("audit", "teacher", "student", "fixres"),
            _export_options("fp32"),
            f"{ARTIFACT}:build_export",
            version=2,  # judged on val, not on test
        ),
        *(_precision_stage(precision) for precision in REDUCED),
        Stage(
            "latency",
            "latency",
            ("teacher", "student", "fixres"),
            lambda recipe: {"opset": recipe.export.opset},
            f"{ARTIFACT}:build_latency",
        ),
        Stage(
            "http",
            "http",
            ("audit", "export"),
            lambda recipe: asdict(recipe.serve),
            "stillroom.run.stages.http_parity:check_http_parity",
        ),
        Stage(
            "loadtest",
            "loadtest",
            ("audit", "export", "http"),
            lambda recipe: {"serve": asdict(recipe.serve), "load": asdict(recipe.loadtest)},
            "stillroom.run.stages.load:run_load_tests",
            version=2,  # an objective can be neither met nor missed
        ),
        Stage(
            "ablation",
            "ablation",
            ("audit", "teacher"),
            _ablation_options,
            "stillroom.ablation.stage:build_ablation",
            resumable=True,
            section="student",
        ),
        Stage(
            "report",
            "report",
            ("audit", "baseline", "latency", "http", "loadtest"),
            lambda recipe: {"name": recipe.name},
            "stillroom.report.page:write_report",
            shows=("ablation", *REDUCED),
        ),
    ),
    aliases={"train": "teacher", "compress": "baseline", "serve": "http", "ablate": "ablation"},
)

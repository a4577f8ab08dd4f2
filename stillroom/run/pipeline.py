"""The pipeline: every stage of a run, wired from options and folders to the packages that do it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from export.options import REDUCED
from stillroom.run.recipe import Recipe
from stillroom.run.stage_graph import Built, Context, Graph, Stage

__all__ = ["PIPELINE"]

# Each builder imports what it needs when it runs: commands that only look stay fast, and a server
# installation without torch can use them.


def _dataset(context: Context) -> Any:
    from train.data.audit.dataset_audit import refuse_unreadable
    from train.stage import Dataset

    data = context.run.stage("data")
    refuse_unreadable(data, context.recipe.data)
    return Dataset.open(context.photos, data / "index.csv", context.recipe.data.cache_mib)


def _build_audit(context: Context) -> Built:
    from stillroom.report.audit_page import write_audit_page
    from train.data.audit.dataset_audit import audit_images
    from train.data.folders.notices import severity_of
    from train.data.images import read_index
    from train.data.source import open_source
    from train.engine.progress import say

    recipe = context.recipe
    source = context.source or open_source(context.photos, recipe.data)
    for remark in source.remarks:
        say(f"  {remark}")
    if meant := sum(severity_of(notice.reason) == "error" for notice in source.notices):
        page = context.run.stage("data") / "audit.html"
        say(f"  {meant} paths in {source.root} need a look, such as images not read: {page}")
    audit = audit_images(
        source.root,
        recipe.data,
        seed=recipe.seed,
        out=context.out,
        photos=source.listing,
        misnamed=source.misnamed,
    )
    photos = read_index(context.out / "index.csv")
    write_audit_page(source.root, photos, audit, context.out / "audit.html")
    metrics = {key: audit[key] for key in ("photos", "imbalance", "dataset_digest")}
    return Built({**metrics, "classes": len(audit["labels"]), "findings": len(audit["findings"])})


@contextmanager
def _curves(context: Context, stage: str, config: dict[str, Any]) -> Iterator[list[Any]]:
    """Callbacks that draw a training's curves while it runs, beside the stages: they have times."""
    from train.curves import open_trackers
    from train.engine.callbacks import OnEpoch
    from train.engine.world import current_world

    if not current_world().is_writer:
        yield []
        return
    folder = context.run.path / "tensorboard" / stage
    with open_trackers(folder, name=f"{context.name}/{stage}", config=config) as curves:
        yield [OnEpoch(curves)]


def _build_teacher(context: Context) -> Built:
    from stillroom.extras.distributed.ranks import build_with_ranks

    return build_with_ranks("teacher", context.recipe.teacher, context, build_teacher)


def build_teacher(context: Context) -> Built:
    """Train the teacher; of several ranks, each calls this."""
    from train.stage import train_teacher

    recipe = context.recipe
    with _curves(context, "teacher", _training_options("teacher")(recipe)) as callbacks:
        metrics = train_teacher(
            _dataset(context),
            recipe.teacher,
            seed=recipe.seed,
            out=context.out,
            callbacks=callbacks,
        )
    return Built(metrics)


def _build_student(context: Context) -> Built:
    from compress.stage import REPORT, distil_student

    recipe, dataset = context.recipe, _dataset(context)
    with _curves(context, "student", _student_options(recipe)) as callbacks:
        metrics = distil_student(
            dataset,
            context.run.stage("teacher"),
            recipe.student,
            recipe.distil,
            seed=_student_seed(recipe),
            out=context.out,
            callbacks=callbacks,
            unlabelled=_unlabelled(recipe, dataset),
        )
    return Built(metrics, {"distillation": json.loads((context.out / REPORT).read_bytes())})


def _unlabelled(recipe: Recipe, dataset: Any) -> Any:
    from train.data.unlabelled import open_unlabelled

    if not recipe.distil.unlabelled:
        return None
    root = Path(recipe.distil.unlabelled)
    return open_unlabelled(root, dataset, recipe.data)


def _student_seed(recipe: Recipe) -> int:
    """Other views than those the teacher was fitted to; the same for the student's baseline."""
    from train.engine.seed import derive_seed

    return derive_seed(recipe.seed, "student")


def _build_fixres(context: Context) -> Built:
    from compress.fixres_stage import fine_tune_fixres

    recipe = context.recipe
    student = context.run.stage("student")
    metrics, fields = fine_tune_fixres(
        _dataset(context), student, recipe.fixres, seed=recipe.seed, out=context.out
    )
    return Built(metrics, fields)


def _build_baseline(context: Context) -> Built:
    from train.stage import train_teacher

    recipe = context.recipe
    with _curves(context, "baseline", _training_options("student")(recipe)) as callbacks:
        metrics = train_teacher(
            _dataset(context),
            recipe.student,
            seed=_student_seed(recipe),
            out=context.out,
            callbacks=callbacks,
        )
    return Built(metrics)


def _build_export(context: Context) -> Built:
    from export.stage import export_artifact

    options = context.recipe.export
    metrics, fields = export_artifact(
        _dataset(context),
        context.run.stage(options.source),
        options,
        name=context.name,
        out=context.out,
    )
    return Built(metrics, fields)


def _build_precision(precision: str) -> Callable[[Context], Built]:
    def build(context: Context) -> Built:
        from export.precision.stage import export_precision

        options = context.recipe.export
        metrics, fields = export_precision(
            _dataset(context),
            context.run.stage(options.source),
            context.run.stage("artifact"),
            precision,
            options,
            name=context.name,
            out=context.out,
        )
        return Built(metrics, fields)

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
        _build_precision(precision),
        asked=lambda recipe: precision in recipe.export.precisions,
        kind="artifact",
    )


def _build_latency(context: Context) -> Built:
    from export.model_latency import compare_latency

    folders = {name: context.run.stage(name) for name in ("teacher", "student", "fixres")}
    return Built(compare_latency(folders, opset=context.recipe.export.opset, out=context.out))


def _build_http(context: Context) -> Built:
    from stillroom.run.http_parity import check_http_parity

    return Built(check_http_parity(context))


def _build_loadtest(context: Context) -> Built:
    from stillroom.run.load import run_load_tests

    return Built(run_load_tests(context))


def _build_ablation(context: Context) -> Built:
    from stillroom.ablation.stage import run_ablation

    recipe, dataset = context.recipe, _dataset(context)
    return Built(run_ablation(context, dataset, _unlabelled(recipe, dataset)))


def _build_report(context: Context) -> Built:
    from stillroom.report.page import write_report

    return Built(write_report(context))


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
            _build_audit,
            version=2,  # near-duplicates stay on one side of the split
        ),
        Stage(
            "teacher",
            "teacher",
            ("audit",),
            _training_options("teacher"),
            _build_teacher,
            resumable=True,
            section="teacher",
        ),
        Stage(
            "student",
            "student",
            ("audit", "teacher"),
            _student_options,
            _build_student,
            resumable=True,
            section="student",
        ),
        Stage(
            "fixres",
            "fixres",
            ("audit", "student"),
            lambda recipe: asdict(recipe.fixres),
            _build_fixres,
            resumable=True,
            section="fixres",
            version=3,  # kept where it answers val better: by top-1, then by the loss
        ),
        Stage(
            "baseline",
            "baseline",
            ("audit",),
            _training_options("student"),
            _build_baseline,
            resumable=True,
            section="student",
        ),
        Stage(
            "export",
            "artifact",
            ("audit", "teacher", "student", "fixres"),
            _export_options("fp32"),
            _build_export,
            version=2,  # judged on val, not on test
        ),
        *(_precision_stage(precision) for precision in REDUCED),
        Stage(
            "latency",
            "latency",
            ("teacher", "student", "fixres"),
            lambda recipe: {"opset": recipe.export.opset},
            _build_latency,
        ),
        Stage(
            "http",
            "http",
            ("audit", "export"),
            lambda recipe: asdict(recipe.serve),
            _build_http,
        ),
        Stage(
            "loadtest",
            "loadtest",
            ("audit", "export", "http"),
            lambda recipe: {"serve": asdict(recipe.serve), "load": asdict(recipe.loadtest)},
            _build_loadtest,
            version=2,  # an objective can be neither met nor missed
        ),
        Stage(
            "ablation",
            "ablation",
            ("audit", "teacher"),
            _ablation_options,
            _build_ablation,
            resumable=True,
            section="student",
        ),
        Stage(
            "report",
            "report",
            ("audit", "baseline", "latency", "http", "loadtest"),
            lambda recipe: {"name": recipe.name},
            _build_report,
            shows=("ablation", *REDUCED),
        ),
    ),
    aliases={"train": "teacher", "compress": "baseline", "serve": "http", "ablate": "ablation"},
)

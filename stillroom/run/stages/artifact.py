"""The stages that export: the fp32 artifact, those of reduced precision, and the latencies."""

from __future__ import annotations

from pkgutil import resolve_name

from export.model_latency import compare_latency
from export.stage import export_artifact
from stillroom.run.stage_graph import Built, Context
from stillroom.run.stages.data import dataset_of

__all__ = ["build_export", "build_latency", "build_precision"]

PRECISION = "export.precision.stage:export_precision"


def build_export(context: Context) -> Built:
    """Export the model that the recipe names to fp32 ONNX, behind the parity gate."""
    options = context.recipe.export
    metrics, fields = export_artifact(
        dataset_of(context),
        context.run.stage(options.source),
        options,
        name=context.name,
        out=context.out,
    )
    return Built(metrics, fields)


def build_precision(context: Context, precision: str) -> Built:
    """Reduce the fp32 artifact to another precision, behind the same gate."""
    export_precision = resolve_name(PRECISION)  # optional: loaded where a recipe asks for it
    options = context.recipe.export
    metrics, fields = export_precision(
        dataset_of(context),
        context.run.stage(options.source),
        context.run.stage("artifact"),
        precision,
        options,
        name=context.name,
        out=context.out,
    )
    return Built(metrics, fields)


def build_latency(context: Context) -> Built:
    """Time teacher, student and FixRes on one CPU thread, in turn."""
    folders = {name: context.run.stage(name) for name in ("teacher", "student", "fixres")}
    return Built(compare_latency(folders, opset=context.recipe.export.opset, out=context.out))

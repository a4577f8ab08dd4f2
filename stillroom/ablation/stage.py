"""The ablation stage: trainings, then one look at the test images, then the table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from export.model_latency import compare_latency
from serve.contract.digest import canonical_json
from stillroom.ablation.cells import Trainings, cell_folder
from stillroom.ablation.facts import contrasts_of, read_rows, sentences_of
from stillroom.run.recipe import Recipe
from stillroom.run.stage_graph import Context
from stillroom.run.stages.data import dataset_of, unlabelled_of
from stillroom.sweep.speed import busy_notice
from train.data.dataset import Dataset
from train.data.unlabelled import Unlabelled
from train.engine.progress import say

__all__ = ["RESULTS", "TABLE", "build_ablation", "run_ablation", "table_of"]

RESULTS, TABLE = "results.json", "table.md"
SCHEMA_VERSION = "1.0"
HOW_JUDGED = (
    "Intervals draw seeds and images with replacement; the reading goes by them. McNemar's "
    "test is over all pairs of seed and image; those of one image are not independent. "
    "Latency: one image, one CPU thread, ONNX Runtime."
)


def build_ablation(context: Context) -> dict[str, Any]:
    """The stage: `run_ablation` on the images of a run."""
    dataset = dataset_of(context)
    return run_ablation(context, dataset, unlabelled_of(context.recipe, dataset))


def run_ablation(
    context: Context, dataset: Dataset, unlabelled: Unlabelled | None
) -> dict[str, Any]:
    """Train all arms, compare them on the test images, write results.json and table.md.

    Nothing is chosen by what is found: each training keeps the weights that are best on val.

    Returns:
        Headline metrics.
    """
    recipe, out = context.recipe, context.out
    seeds, teacher = recipe.ablation.seeds, context.run.stage("teacher")
    Trainings(
        dataset,
        teacher,
        recipe.student,
        recipe.distil,
        recipe.fixres,
        unlabelled,
        recipe.seed,
    ).run(out, seeds)
    say("latency of teacher and students")
    folders = {
        "teacher": teacher,
        "student": cell_folder(out, "labels", 0),
        "fixres": cell_folder(out, "both", 0),
    }
    compare_latency(folders, opset=recipe.export.opset, out=out)
    latency = json.loads((out / "latency.json").read_bytes())
    rows = read_rows(out, teacher, seeds, latency)
    contrasts = contrasts_of(rows)
    results = {
        "schema_version": SCHEMA_VERSION,
        "judged_on": "test",
        "seeds": seeds,
        "images": int(rows[0].right.shape[1]),
        "teacher": _card(folders["teacher"] / "checkpoint.json"),
        "student": _card(folders["student"] / "checkpoint.json"),
        "budget": _budget(recipe, unlabelled),
        "how_judged": HOW_JUDGED,
        "teacher_logits": recipe.distil.teacher_logits,
        "sentences": [*sentences_of(rows, contrasts), *busy_notice(latency.values())],
        "rows": [row.to_dict() for row in rows],
        "contrasts": [contrast.to_dict() for contrast in contrasts],
    }
    (out / RESULTS).write_bytes(canonical_json(results))
    (out / TABLE).write_text("\n".join(table_of(results)) + "\n", encoding="utf-8")
    top1 = {f"{row.key}_test_top1": float(row.right.mean()) for row in rows}
    return {**top1, "gain": contrasts[2].difference, "seeds": seeds}


def table_of(results: Mapping[str, Any]) -> list[str]:
    """results.json as Markdown."""
    sd = "mean (SD)" if results["seeds"] > 1 else "one seed"
    return [
        *results["sentences"],
        "",
        f"| student {results['student']['arch']} | test top-1, {sd} | 95 % interval | val top-1 "
        "| epochs | steps | px | latency ms |",
        "|---|---|---|---|---|---|---|---|",
        *(_row_line(row, results) for row in results["rows"]),
        "",
        "| what it brings | points | 95 % interval | McNemar p | reading |",
        "|---|---|---|---|---|",
        *(_contrast_line(contrast) for contrast in results["contrasts"]),
        "",
        f"n = {results['seeds']} seed{'s' * (results['seeds'] > 1)} x {results['images']} test "
        f"images. {results['budget']} "
        f"{HOW_JUDGED}",
    ]


def _budget(recipe: Recipe, unlabelled: Unlabelled | None) -> str:
    text = (
        "All arms pass through the training images equally often: the "
        f"{recipe.fixres.epochs} epochs of FixRes are taken from the arm's own."
    )
    if unlabelled is None:
        return text
    count = len(unlabelled.photos)
    return f"{text} Those with the teacher see {count} images without labels besides."


def _row_line(row: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    title = f"teacher, {results['teacher']['arch']}" if row["key"] == "teacher" else row["title"]
    sd = "" if row["test_top1_sd"] is None else f" ({100 * row['test_top1_sd']:.1f})"
    val = "-" if row["val_top1"] is None else f"{100 * row['val_top1']:.1f} %"
    budget = f"{row['epochs']} | {row['steps']}" if row["epochs"] else "- | -"
    return (
        f"| {title} | {100 * row['test_top1']:.1f} %{sd} | {100 * row['test_top1_low']:.1f} to "
        f"{100 * row['test_top1_high']:.1f} | {val} | {budget} | {row['test_px']} | "
        f"{row['latency']['median_ms']:.2f} |"
    )


def _contrast_line(contrast: Mapping[str, Any]) -> str:
    return (
        f"| {contrast['title']} | {100 * contrast['difference']:+.1f} | "
        f"{100 * contrast['low']:+.1f} to {100 * contrast['high']:+.1f} | {contrast['p']:.2g} | "
        f"{contrast['reading']} |"
    )


def _card(path: Any) -> dict[str, Any]:
    card = json.loads(path.read_bytes())
    return {"arch": card["arch"], "parameters": card["parameters"], "macs": card["flops"]}

"""The stages that train: teacher, student, FixRes and baseline."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

from compress.fixres_stage import fine_tune_fixres
from compress.stage import REPORT, distil_student
from stillroom.run.pipeline import PIPELINE
from stillroom.run.recipe import Recipe
from stillroom.run.stage_graph import Built, Context
from stillroom.run.stages.data import dataset_of, unlabelled_of
from train.engine.seed import derive_seed
from train.engine.world import current_world
from train.stage import train_teacher

__all__ = ["build_baseline", "build_fixres", "build_student", "build_teacher"]


def build_teacher(context: Context) -> Built:
    """Train the teacher; of several ranks, each calls this."""
    recipe = context.recipe
    with _curves(context, "teacher") as listen:
        metrics = train_teacher(
            dataset_of(context), recipe.teacher, seed=recipe.seed, out=context.out, listen=listen
        )
    return Built(metrics)


def build_student(context: Context) -> Built:
    """Distil the student from the teacher."""
    recipe, dataset = context.recipe, dataset_of(context)
    with _curves(context, "student") as listen:
        metrics = distil_student(
            dataset,
            context.run.stage("teacher"),
            recipe.student,
            recipe.distil,
            seed=_student_seed(recipe),
            out=context.out,
            listen=listen,
            unlabelled=unlabelled_of(recipe, dataset),
        )
    return Built(metrics, {"distillation": json.loads((context.out / REPORT).read_bytes())})


def build_fixres(context: Context) -> Built:
    """Fine-tune the student's classifier at the test size."""
    recipe = context.recipe
    student = context.run.stage("student")
    metrics, fields = fine_tune_fixres(
        dataset_of(context), student, recipe.fixres, seed=recipe.seed, out=context.out
    )
    return Built(metrics, fields)


def build_baseline(context: Context) -> Built:
    """Train the student without a teacher."""
    recipe = context.recipe
    with _curves(context, "baseline") as listen:
        metrics = train_teacher(
            dataset_of(context),
            recipe.student,
            seed=_student_seed(recipe),
            out=context.out,
            listen=listen,
        )
    return Built(metrics)


def _student_seed(recipe: Recipe) -> int:
    """Other views than those the teacher was fitted to; the same for the student's baseline."""
    return derive_seed(recipe.seed, "student")


def _curves(context: Context, stage: str) -> Any:
    """Listeners that draw a training's curves while it runs, beside the stages: they have times."""
    from train.extras.tracking.curves import open_trackers

    if not current_world().is_writer:
        return nullcontext()
    folder = context.run.path / "tensorboard" / stage
    config = PIPELINE[stage].options(context.recipe)
    return open_trackers(folder, name=f"{context.name}/{stage}", config=config)

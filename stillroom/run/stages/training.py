"""The stages that train: teacher, student, FixRes and baseline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from compress.fixres_stage import fine_tune_fixres
from compress.stage import REPORT, distil_student
from stillroom.run.pipeline import PIPELINE
from stillroom.run.recipe import Recipe
from stillroom.run.stage_graph import Built, Context
from stillroom.run.stages.data import dataset_of, unlabelled_of
from train.curves import open_trackers
from train.engine.callbacks import Callback, OnEpoch
from train.engine.seed import derive_seed
from train.engine.world import current_world
from train.stage import train_teacher

__all__ = ["build_baseline", "build_fixres", "build_student", "build_teacher"]


def build_teacher(context: Context) -> Built:
    """Train the teacher; of several ranks, each calls this."""
    recipe = context.recipe
    with _curves(context, "teacher") as callbacks:
        metrics = train_teacher(
            dataset_of(context),
            recipe.teacher,
            seed=recipe.seed,
            out=context.out,
            callbacks=callbacks,
        )
    return Built(metrics)


def build_student(context: Context) -> Built:
    """Distil the student from the teacher."""
    recipe, dataset = context.recipe, dataset_of(context)
    with _curves(context, "student") as callbacks:
        metrics = distil_student(
            dataset,
            context.run.stage("teacher"),
            recipe.student,
            recipe.distil,
            seed=_student_seed(recipe),
            out=context.out,
            callbacks=callbacks,
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
    with _curves(context, "baseline") as callbacks:
        metrics = train_teacher(
            dataset_of(context),
            recipe.student,
            seed=_student_seed(recipe),
            out=context.out,
            callbacks=callbacks,
        )
    return Built(metrics)


def _student_seed(recipe: Recipe) -> int:
    """Other views than those the teacher was fitted to; the same for the student's baseline."""
    return derive_seed(recipe.seed, "student")


@contextmanager
def _curves(context: Context, stage: str) -> Iterator[list[Callback]]:
    """Callbacks that draw a training's curves while it runs, beside the stages: they have times."""
    if not current_world().is_writer:
        yield []
        return
    folder = context.run.path / "tensorboard" / stage
    config = PIPELINE[stage].options(context.recipe)
    with open_trackers(folder, name=f"{context.name}/{stage}", config=config) as curves:
        yield [OnEpoch(curves)]

"""The images of a request as a dataset, audited for its run where that was not done."""

from __future__ import annotations

from pathlib import Path

from stillroom.run.execution import Request, run_stages
from stillroom.run.folder import RunFolder
from stillroom.run.model_check import check_models_of
from stillroom.run.pipeline import PIPELINE
from stillroom.run.recipe import Recipe
from stillroom.run.saved_recipe import RunRecipe
from train.data.audit.dataset_audit import refuse_unreadable
from train.data.dataset import Dataset
from train.data.source import open_source

__all__ = ["open_audited"]


def open_audited(request: Request) -> tuple[Recipe, Dataset]:
    """The recipe and the dataset of a request.

    A run that has an audit of these images is only read; else the audit is built first.

    Args:
        request: with images; `until` and `rebuild_from` do not matter.

    Raises:
        StillroomError: images or recipe cannot be used.
    """
    photos = (request.photos or Path()).resolve()
    run = RunFolder(request.run)
    recipe = RunRecipe(run, request.recipe, request.overrides).recipe
    check_models_of(recipe, "teacher")
    audit = PIPELINE["audit"]
    source = open_source(photos, recipe.data)
    key = PIPELINE.key(audit, recipe, run, source.fingerprint())
    if run.problem(audit.folder, key) is not None:
        wanted = Request(request.run, photos, request.recipe, request.overrides, "audit")
        run_stages(PIPELINE, wanted)
    data = run.stage(audit.folder)
    refuse_unreadable(data, recipe.data)
    return recipe, Dataset.open(source.root, data / "index.csv", recipe.data.cache_mib)

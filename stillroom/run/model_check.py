"""Models that a recipe names and nobody has, found before anything long begins."""

from __future__ import annotations

import json
from collections.abc import Iterable

from stillroom.run.folder import RunFolder
from stillroom.run.recipe import Recipe
from stillroom.run.section_advice import advising
from stillroom.run.stage_graph import Stage
from train.models.names import check_model_name
from train.models.weights.source import check_source
from train.options import TrainOptions

__all__ = ["check_models", "check_models_of"]


def check_models(recipe: Recipe, stages: Iterable[Stage], run: RunFolder) -> None:
    """Check the models of those stages that are not built with today's options.

    Raises:
        UsageError: timm has no such model; names the key, and models that are called like it.
        CheckpointError: no such file or package of weights.
    """
    for stage in stages:
        if stage.section:
            manifest = run.manifest(stage.folder)
            now = json.loads(json.dumps(stage.options(recipe)))
            if manifest is None or manifest.get("options") != now:
                check_models_of(recipe, stage.section)


def check_models_of(recipe: Recipe, section: str) -> None:
    """Check what one section says; one that names no model is passed over.

    Raises:
        UsageError: as `check_models`.
        CheckpointError: as `check_models`.
    """
    options = getattr(recipe, section)
    if isinstance(options, TrainOptions):
        with advising(section):
            check_model_name(options.arch, f"{section}.arch")
            check_source(options.arch, options.weights)

"""What of a run is done: by its files, their parents, recipe.toml and the photographs of today."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.contract.errors import DatasetError, RunError
from stillroom.command_text import command_text
from stillroom.graph import Graph, Stage
from stillroom.recipe import Recipe, load_recipe
from stillroom.run_folder import RunFolder
from train.shard_names import Origin, origin_of
from train.source import open_source, root_of

__all__ = ["RunState", "StageState", "read_run_state"]


@dataclass(frozen=True)
class StageState:
    """Whether a stage is done: `problem` says why not, and is None when it is."""

    stage: Stage
    problem: str | None
    digest: str


@dataclass(frozen=True)
class RunState:
    """What of a run is done.

    Args:
        stages: all of the graph, in its order.
        photos: the dataset's folder, list or shards.
        inputs: fingerprint of the photographs as the run saw them.
        photos_changed: why they are not the same any more; empty where they are, or are not here.
        photos_here: whether the folder, the list or the shards' index is on this machine; else
            changes cannot be seen.
    """

    stages: tuple[StageState, ...]
    photos: Origin
    inputs: str
    photos_changed: str
    photos_here: bool


def read_run_state(graph: Graph, run: RunFolder) -> RunState:
    """Compare every stage with its files, its parents, recipe.toml and the photographs.

    Raises:
        RunError: the folder holds no run.
        RecipeError: recipe.toml cannot be read.
    """
    record = run.record()
    if not record:
        raise RunError(
            f"{run.path} holds no run.",
            f"Make one: {command_text('run', 'PHOTOS', '--run', run.path)}",
        )
    photos = origin_of(record["photos"])
    inputs, changed = record["inputs"], ""
    is_here = photos.exists() if isinstance(photos, Path) else root_of(photos).is_dir()
    if is_here:
        inputs, changed = _look_at_photos(photos, inputs)
    recipe = load_recipe(run.recipe_path) if run.recipe_path.exists() else None
    states: dict[str, StageState] = {}
    for stage in graph:
        problem = _problem_of(graph, stage, run, recipe, inputs, states)
        manifest = run.manifest(stage.folder) or {}
        states[stage.name] = StageState(stage, problem, str(manifest.get("digest", "")))
    return RunState(tuple(states.values()), photos, record["inputs"], changed, is_here)


def _look_at_photos(photos: Origin, recorded: str) -> tuple[str, str]:
    """Fingerprint of today, and in words why it is not the recorded one."""
    try:
        inputs = open_source(photos).fingerprint()
    except DatasetError as error:
        return "", error.message.rstrip(".")
    if inputs == recorded:
        return inputs, ""
    return inputs, f"the photographs in {photos} are not those of the run any more"


def _problem_of(
    graph: Graph,
    stage: Stage,
    run: RunFolder,
    recipe: Recipe | None,
    inputs: str,
    states: dict[str, StageState],
) -> str | None:
    problem = run.problem(stage.folder)
    if problem is not None:
        return problem
    manifest: dict[str, Any] = run.manifest(stage.folder) or {}
    for name, digest in manifest["parents"].items():
        parent = states[graph[name].name]
        if parent.digest != digest:
            return f"stale: {name} changed since"
        if parent.problem is not None:
            return f"stale: {name} must be built again"
    if recipe is not None and manifest.get("key") != graph.key(stage, recipe, run, inputs):
        return "its inputs or options changed"
    return None

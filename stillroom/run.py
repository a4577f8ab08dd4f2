"""Running a pipeline: skip what is done, build what is not, keep run.json true all the while."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.contract.digest import digest_of_json
from serve.contract.errors import RunError
from stillroom.graph import Context, Graph, Stage
from stillroom.recipe import Recipe, load_recipe, recipe_text
from stillroom.run_folder import RunFolder
from train.photos import find_photos, fingerprint
from train.progress import say

__all__ = ["Request", "StageState", "run_stages", "stage_states"]

DEFAULT_RECIPE = "default"


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        run: the run folder's path.
        photos: the dataset's folder; None takes the run's own.
        recipe: a file or a shipped name; None takes the run's own, or the default.
        overrides: key=value each.
        until: last stage to build.
        rebuild_from: stage to build again even if it is done, with all after it; None for none.
    """

    run: Path
    photos: Path | None = None
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    until: str = "report"
    rebuild_from: str | None = None


@dataclass(frozen=True)
class StageState:
    """Whether a stage is done: `problem` says why not, and is None when it is."""

    stage: Stage
    problem: str | None
    digest: str


def run_stages(graph: Graph, request: Request) -> RunFolder:
    """Build what a request needs and is not done.

    Returns:
        The run folder.

    Raises:
        RunError: the folder is busy, of other photographs, or names none.
        StillroomError: of the stage that failed; stages before it stay published.
    """
    run = RunFolder(request.run)
    record = run.record()
    photos = _photos_of(request, record)
    recipe = _recipe_of(request, run)
    stages = graph.up_to(request.until)
    forced = graph.from_on(request.rebuild_from) if request.rebuild_from else set()
    inputs = fingerprint(photos, find_photos(photos))
    _refuse_other_dataset(run, record, photos, inputs)
    with run.locked():
        run.write_recipe(recipe_text(recipe))
        _write_record(graph, run, photos, inputs, recipe)
        context = Context(photos, run, recipe, recipe.name or photos.name)
        for stage in stages:
            key = graph.key(stage, recipe, run, inputs)
            why = run.problem(stage.folder, key)
            if why is None and stage.name in forced:
                why = "asked for by --from"
            if why is None:
                say(f"{stage.name}: done")
                continue
            say(f"{stage.name}: {why}; building")
            seconds = graph.build(stage, context, key)
            _write_record(graph, run, photos, inputs, recipe)
            say(f"{stage.name}: built in {seconds:.1f} s")
    return run


def stage_states(graph: Graph, run: RunFolder) -> list[StageState]:
    """Whether each stage of a run is done, by its files and its parents' digests.

    Raises:
        RunError: the folder holds no run.
    """
    record = run.record()
    if not record:
        raise RunError(
            f"{run.path} holds no run.", f"Make one: stillroom run PHOTOS --run {run.path}"
        )
    states: list[StageState] = []
    unsound: set[str] = set()
    for stage in graph:
        problem = run.problem(stage.folder)
        manifest = run.manifest(stage.folder) or {}
        if problem is None:
            for name, digest in manifest["parents"].items():
                parent = run.manifest(graph[name].folder)
                if parent is None or parent["digest"] != digest:
                    problem = f"stale: {name} changed since"
                elif name in unsound:
                    problem = f"stale: {name} must be built again"
        if problem is not None:
            unsound.add(stage.name)
        states.append(StageState(stage, problem, str(manifest.get("digest", ""))))
    return states


def _photos_of(request: Request, record: dict[str, Any]) -> Path:
    if request.photos is not None:
        return request.photos.resolve()
    if "photos" not in record:
        raise RunError(
            f"{request.run} holds no run.", f"Make one: stillroom run PHOTOS --run {request.run}"
        )
    return Path(record["photos"])


def _recipe_of(request: Request, run: RunFolder) -> Recipe:
    source: str | Path = request.recipe or DEFAULT_RECIPE
    if request.recipe is None and run.recipe_path.exists():
        source = run.recipe_path
    return load_recipe(source, request.overrides)


def _refuse_other_dataset(
    run: RunFolder, record: dict[str, Any], photos: Path, inputs: str
) -> None:
    """A run belongs to one folder of photographs, which may be moved, or may change in place."""
    if not record or record["inputs"] == inputs or record["photos"] == str(photos):
        return
    raise RunError(
        f"{run.path} is a run of {record['photos']}, not of {photos}.",
        "Choose another folder with --run.",
    )


def _write_record(graph: Graph, run: RunFolder, photos: Path, inputs: str, recipe: Recipe) -> None:
    """run.json: the hash chain of all published stages."""
    chain = []
    for stage in graph:
        manifest = run.manifest(stage.folder)
        if manifest is not None:
            chain.append(
                {
                    "stage": stage.name,
                    "folder": stage.folder,
                    "digest": manifest["digest"],
                    "parents": manifest["parents"],
                }
            )
    run.write_record(
        {
            "schema_version": "1.0",
            "photos": str(photos),
            "inputs": inputs,
            "recipe_digest": digest_of_json(recipe_text(recipe)),
            "chain": chain,
            "written_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    )

"""Running a pipeline: skip what is done, build what is not, keep run.json true all the while."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve.contract.digest import digest_of_json
from serve.contract.errors import Interrupted, LostRank, RecipeError, RunError
from stillroom.command_text import command_text
from stillroom.run.folder import RunFolder
from stillroom.run.model_check import check_models
from stillroom.run.preflight import check_needs, check_stage
from stillroom.run.recipe import Recipe, recipe_text
from stillroom.run.saved_recipe import DEFAULT_RECIPE, RunRecipe
from stillroom.run.stage_graph import Context, Graph, Stage
from train.data.source import Origin, name_of, open_source, origin_of
from train.engine.progress import say

__all__ = ["DEFAULT_RECIPE", "Request", "run_stages"]


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        run: the run folder's path.
        photos: a folder, a list file or shards; None takes the run's own.
        recipe: a file or a shipped name; None takes the run's own, or the default.
        overrides: key=value each.
        until: last stage to build.
        rebuild_from: stage to build again even if it is done, with all after it; None for none.
        apart: the overrides are for the last stage alone, and the run's recipe stays as it is.
        later: stages that the caller builds next.
    """

    run: Path
    photos: Origin | None = None
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    until: str = "report"
    rebuild_from: str | None = None
    apart: bool = False
    later: tuple[str, ...] = ()


def run_stages(graph: Graph, request: Request) -> RunFolder:
    """Build what a request needs and is not done.

    Returns:
        The run folder.

    Raises:
        RunError: the folder is busy, of other images, or names none.
        RecipeError: `apart`, and an override is not of the last stage alone.
        StillroomError: of the stage that failed; stages before it stay published.
    """
    run = RunFolder(request.run)
    record = run.record()
    photos = _photos_of(request, record)
    own = RunRecipe(run, request.recipe, () if request.apart else request.overrides)
    alone = _last_alone(graph, own, request)
    stages = graph.up_to(request.until, own.recipe)
    forced = graph.from_on(request.rebuild_from) if request.rebuild_from else set()
    check_models(own.recipe, stages, run)
    audits = request.until == "audit"  # which lists what the others refuse
    source = open_source(photos, own.recipe.data, "leave out" if audits else "refuse")
    inputs = source.fingerprint()
    _refuse_other_dataset(run, record, photos, inputs)
    for stage in stages:
        check_needs(stage.name, own.recipe)
    with run.locked():
        _say_what_becomes_stale(graph, run, own, stages, request.later)
        own.save()
        built = 0
        try:
            name = own.recipe.name or name_of(photos)
            context = Context(source.root, run, own.recipe, name, source=source)
            checked = False
            for number, stage in enumerate(stages):
                _write_record(graph, run, photos, inputs, own.recipe)
                one = context
                if stage.name in alone:
                    one = replace(context, recipe=alone[stage.name], overrides=request.overrides)
                why = _why(graph, stage, one, inputs, forced)
                if why and stage.parents and not checked:
                    checked = True
                    for later in stages[number:]:
                        check_stage(later.name, one)
                built += _build(graph, stage, one, inputs, why)
        except (Interrupted, LostRank):  # to be gone on with, by the same command
            raise
        except Exception:
            own.recipe = own.take_back(graph, built=built > 0)
            raise
        finally:
            _write_record(graph, run, photos, inputs, own.recipe)
    return run


def _why(graph: Graph, stage: Stage, context: Context, inputs: str, forced: set[str]) -> str | None:
    """Why a stage is to be built; None where it is done."""
    key = graph.key(stage, context.recipe, context.run, inputs)
    why = context.run.problem(stage.folder, key)
    return "asked for by --from" if why is None and stage.name in forced else why


def _build(graph: Graph, stage: Stage, context: Context, inputs: str, why: str | None) -> bool:
    """Build a stage unless it is done; say which; return whether it was built."""
    if why is None:
        say(f"{stage.name}: done")
        return False
    key = graph.key(stage, context.recipe, context.run, inputs)
    say(f"{stage.name}: {why}; building")
    seconds = graph.build(stage, context, key)
    say(f"{stage.name}: built in {seconds:.1f} s")
    return True


def _last_alone(graph: Graph, own: RunRecipe, request: Request) -> dict[str, Recipe]:
    """The recipe of the last stage, by its name, where it has one of its own."""
    if not (request.apart and request.overrides):
        return {}
    last, recipe = graph[request.until], own.with_overrides(request.overrides)
    for stage in graph.depends_on(last):
        if recipe.seed != own.recipe.seed or stage.options(recipe) != stage.options(own.recipe):
            what = "seed" if recipe.seed != own.recipe.seed else stage.name
            raise RecipeError(
                f"{' '.join(request.overrides)} changes {what} of {request.run}, which the "
                f"{last.name} is built on.",
                "Leave it out, or make another run with it: "
                f"stillroom run PHOTOS --run NEW {' '.join(request.overrides)}",
            )
    return {last.name: recipe}


def _say_what_becomes_stale(
    graph: Graph, run: RunFolder, own: RunRecipe, stages: list[Stage], later: Collection[str]
) -> None:
    """Name the stages that another recipe makes stale and this call does not build again."""
    if own.before is None:
        return
    changed = {
        stage.name
        for stage in graph
        if own.before.seed != own.recipe.seed
        or stage.options(own.before) != stage.options(own.recipe)
    }
    built_now = {stage.name for stage in stages} | set(later)
    stale = [
        stage.name
        for stage in graph
        if run.manifest(stage.folder) is not None
        and stage.name not in built_now
        and changed & {stage.name, *(other.name for other in graph.depends_on(stage))}
    ]
    if stale:
        say(
            f"note: {', '.join(own.overrides) or 'another recipe'} makes {', '.join(stale)} of "
            f"{run.path} stale; this builds them again: stillroom report {run.path}"
        )


def _photos_of(request: Request, record: dict[str, Any]) -> Origin:
    if request.photos is not None:
        return request.photos.resolve()
    if "photos" not in record:
        raise RunError(
            f"{request.run} holds no run.",
            f"Make one: {command_text('run', 'PHOTOS', '--run', request.run)}",
        )
    return origin_of(record["photos"])


def _refuse_other_dataset(
    run: RunFolder, record: dict[str, Any], photos: Origin, inputs: str
) -> None:
    """A run belongs to one folder of images, which may be moved, or may change in place."""
    if not record or record["inputs"] == inputs or record["photos"] == str(photos):
        return
    raise RunError(
        f"{run.path} is a run of {record['photos']}, not of {photos}.",
        "Choose another folder with --run.",
    )


def _write_record(
    graph: Graph, run: RunFolder, photos: Origin, inputs: str, recipe: Recipe
) -> None:
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

"""Running a pipeline: skip what is done, build what is not, keep run.json true all the while."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.contract.digest import digest_of_json
from serve.contract.errors import Interrupted, LostRank, RunError
from stillroom.command_text import command_text
from stillroom.graph import Context, Graph, Stage
from stillroom.model_check import check_models
from stillroom.recipe import Recipe, recipe_text
from stillroom.run_folder import RunFolder
from stillroom.run_recipe import DEFAULT_RECIPE, RunRecipe
from train.progress import say
from train.shard_names import Origin, origin_of
from train.source import name_of, open_source

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
    """

    run: Path
    photos: Origin | None = None
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    until: str = "report"
    rebuild_from: str | None = None


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
    own = RunRecipe(run, request.recipe, request.overrides)
    stages = graph.up_to(request.until, own.recipe)
    forced = graph.from_on(request.rebuild_from) if request.rebuild_from else set()
    check_models(own.recipe, stages, run)
    source = open_source(photos)
    inputs = source.fingerprint()
    _refuse_other_dataset(run, record, photos, inputs)
    with run.locked():
        own.save()
        built = 0
        try:
            for stage in stages:
                _write_record(graph, run, photos, inputs, own.recipe)
                name = own.recipe.name or name_of(photos)
                context = Context(source.root, run, own.recipe, name, source=source)
                built += _build(graph, stage, context, inputs, forced)
        except (Interrupted, LostRank):  # to be gone on with, by the same command
            raise
        except Exception:
            own.recipe = own.take_back(graph, built=built > 0)
            raise
        finally:
            _write_record(graph, run, photos, inputs, own.recipe)
    return run


def _build(graph: Graph, stage: Stage, context: Context, inputs: str, forced: set[str]) -> bool:
    """Build a stage unless it is done; say which; return whether it was built."""
    key = graph.key(stage, context.recipe, context.run, inputs)
    why = context.run.problem(stage.folder, key)
    if why is None and stage.name in forced:
        why = "asked for by --from"
    if why is None:
        say(f"{stage.name}: done")
        return False
    say(f"{stage.name}: {why}; building")
    seconds = graph.build(stage, context, key)
    say(f"{stage.name}: built in {seconds:.1f} s")
    return True


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
    """A run belongs to one folder of photographs, which may be moved, or may change in place."""
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

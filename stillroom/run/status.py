"""What of a run is done: by its files, their parents, recipe.toml and the images of today.

The one rule for what is current, stale, half done, running, not built or not asked for. Whatever
shows figures of a run asks here, so that no old figure stands unmarked beside a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from serve.contract.errors import DatasetError, RunError, StillroomError
from stillroom.command_text import command_text
from stillroom.run.folder import NOT_BUILT, RunFolder
from stillroom.run.recipe import Recipe, load_recipe
from stillroom.run.stage_graph import Graph, Stage
from train.data.source import Origin, open_source, origin_of, root_of
from train.options import DataOptions

__all__ = ["RunState", "StageState", "State", "read_run_state", "stale_note"]


State = Literal[
    "done", "stale", "damaged", "half done", "running now", "not built yet", "not asked for"
]


@dataclass(frozen=True)
class StageState:
    """What of a stage is there, and whether it is today's.

    Args:
        stage: of the graph.
        problem: why it is not done; None when it is.
        digest: of its manifest; empty without one.
        state: one word or two for `problem`.
        words: the same for people, with the reason or how far it is.
    """

    stage: Stage
    problem: str | None
    digest: str
    state: State
    words: str


@dataclass(frozen=True)
class RunState:
    """What of a run is done.

    Args:
        stages: all of the graph, in its order.
        photos: the dataset's folder, list or shards.
        inputs: fingerprint of the images as the run saw them.
        photos_changed: why they are not the same any more; empty where they are, or are not here.
        photos_here: whether the folder, the list or the shards' index is on this machine; else
            changes cannot be seen.
        worker: the process that works on the run now; None without one, 0 where it is not named.
    """

    stages: tuple[StageState, ...]
    photos: Origin
    inputs: str
    photos_changed: str
    photos_here: bool
    worker: int | None = None

    def of(self, name: str) -> StageState:
        """The state of a stage, by its name or its folder."""
        return next(one for one in self.stages if name in (one.stage.name, one.stage.folder))

    def named(self, *states: State) -> list[str]:
        """Names of the stages in these states."""
        return [one.stage.name for one in self.stages if one.state in states]


def read_run_state(graph: Graph, run: RunFolder) -> RunState:
    """Compare every stage with its files, its parents, recipe.toml and the images.

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
    recipe = load_recipe(run.recipe_path) if run.recipe_path.exists() else None
    if is_here:
        inputs, changed = _look_at_photos(photos, (recipe or Recipe()).data, inputs)
    asked = graph.asked_for(recipe) if recipe else {stage.name for stage in graph}
    worker = run.worker()
    running = _stage_at_work(graph, run) if worker is not None else None
    states: dict[str, StageState] = {}
    for stage in graph:
        problem = _problem_of(graph, stage, run, recipe, inputs, states)
        digest = str((run.manifest(stage.folder) or {}).get("digest", ""))
        state = _state_of(stage, run, problem, asked, running)
        words = _words_of(graph, stage, run, recipe, inputs, problem, state)
        states[stage.name] = StageState(stage, problem, digest, state, words)
    return RunState(
        tuple(states.values()), photos, record["inputs"], changed, is_here, worker=worker
    )


def stale_note(target: Path, folder: str = "artifact") -> str:
    """What to say before a stage of a run is used that is not today's; empty where it is.

    Args:
        target: a run folder; anything else has no stages, and nothing is said.
        folder: of the stage.
    """
    from stillroom.run.pipeline import PIPELINE

    try:
        if not (target / folder).is_dir():
            return ""
        one = read_run_state(PIPELINE, RunFolder(target)).of(folder)
    except StillroomError:
        return ""
    if one.state not in ("stale", "damaged"):
        return ""
    return (
        f"note: {target / folder} is {one.words}. It is used as it is; this builds it again: "
        + command_text(
            "run", RunFolder(target).photos_or("PHOTOS"), "--run", target, "--until", one.stage.name
        )
    )


def _stage_at_work(graph: Graph, run: RunFolder) -> str | None:
    """Of the stages with unfinished work the one begun last; the others were interrupted."""
    begun = {
        stage.name: work[1] for stage in graph if (work := run.unfinished(stage.folder)) is not None
    }
    return max(begun, key=begun.__getitem__, default=None)


def _state_of(
    stage: Stage, run: RunFolder, problem: str | None, asked: set[str], running: str | None
) -> State:
    if stage.name == running:
        return "running now"
    if problem is None:
        return "done"
    if problem == NOT_BUILT:
        if stage.resumable and run.unfinished(stage.folder) is not None:
            return "half done"
        return "not built yet" if stage.name in asked else "not asked for"
    return "damaged" if problem.startswith("damaged") else "stale"


def _words_of(
    graph: Graph,
    stage: Stage,
    run: RunFolder,
    recipe: Recipe | None,
    inputs: str,
    problem: str | None,
    state: State,
) -> str:
    """The state with its reason."""
    reached = run.step_reached(stage.folder)
    step = f"step {reached}" if reached is not None else "its beginning"
    if state == "running now":
        return f"running now, saved at {step}" if stage.resumable else state
    if state == "half done":
        return f"half done: {_resumes(graph, stage, run, recipe, inputs, step)}"
    if state != "stale" or problem is None:
        return problem if state == "damaged" and problem else state
    unfinished = stage.resumable and run.unfinished(stage.folder) is not None
    more = (
        f"; its rebuild {_resumes(graph, stage, run, recipe, inputs, step)}" if unfinished else ""
    )
    return f"stale: {problem.removeprefix('stale: ')}{more}"


def _resumes(
    graph: Graph, stage: Stage, run: RunFolder, recipe: Recipe | None, inputs: str, step: str
) -> str:
    work = run.unfinished(stage.folder)
    try:
        key = graph.key(stage, graph.recipe_of(stage, run, recipe), run, inputs) if recipe else ""
    except RunError:  # a parent is gone
        key = ""
    if work is not None and work[0] == key:
        return f"goes on at {step}"
    return "begins anew, for its inputs or options changed"


def _look_at_photos(photos: Origin, options: DataOptions, recorded: str) -> tuple[str, str]:
    """Fingerprint of today, and in words why it is not the recorded one."""
    try:
        inputs = open_source(photos, options, "leave out").fingerprint()
    except DatasetError as error:
        return "", error.message.rstrip(".")
    if inputs == recorded:
        return inputs, ""
    return inputs, f"the images in {photos} are not those of the run any more"


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
    if recipe is None:
        return None
    if manifest.get("key") != graph.key(stage, graph.recipe_of(stage, run, recipe), run, inputs):
        return "its inputs or options changed"
    return None

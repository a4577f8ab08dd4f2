"""The stage graph: what depends on what, what is done, and what must be built again.

A stage is done when its folder's manifest verifies and names the key that its inputs and options
give today. So nothing is rebuilt without a reason, and nothing stale is taken for new.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from serve.contract.digest import canonical_json, digest_of_json
from serve.contract.errors import GateError, RunError, UsageError
from stillroom.command_text import command_text
from stillroom.run.folder import OVERRIDES, RunFolder
from stillroom.run.recipe import Recipe, load_recipe
from stillroom.run.section_advice import advising
from train.data.source import OpenedSource
from train.engine.throughput import peak_rss_mib

__all__ = ["Builder", "Built", "Context", "Graph", "Stage"]

logger = logging.getLogger(__name__)

LIBRARIES = (
    "bentoml",
    "locust",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "pillow",
    "scikit-learn",
    "stillroom",
    "timm",
    "torch",
    "torchvision",
)


@dataclass(frozen=True)
class Context:
    """What a stage is given.

    Args:
        photos: the folder that the paths of the images are relative to.
        run: where the parents' folders are.
        recipe: all options; a stage reads those that its key covers.
        name: of the model.
        out: the folder to write into; what is there comes from an interrupted build.
        source: the images as listed; None lists those of the folder `photos`.
        overrides: key=value that `recipe` has besides the run's own, for this stage alone.
    """

    photos: Path
    run: RunFolder
    recipe: Recipe
    name: str
    out: Path = Path()
    source: OpenedSource | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """What a stage returns besides its files: numbers, and further fields of the manifest."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


Builder = Callable[[Context], Built | Mapping[str, Any]]  # a plain mapping is the metrics


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Args:
        name: as the command line says it.
        folder: in the run folder.
        parents: stages whose files it reads.
        options: what of the recipe its result depends on.
        build: writes files into `Context.out`; the function, or "module:function", which is
            imported when the stage is built.
        resumable: whether an interrupted build can go on from the files it left.
        version: raised when the code's meaning changes, which makes older results stale.
        shows: stages whose files it shows where they are there; it has those built that the recipe
            asks for.
        asked: whether a recipe asks for this stage, which nothing needs but some stage shows.
        kind: of the folder, in its manifest; "" is the folder's name.
        section: of the recipe, that its training reads; "" where it trains nothing.
    """

    name: str
    folder: str
    parents: tuple[str, ...]
    options: Callable[[Recipe], Any]
    build: Builder | str
    resumable: bool = False
    version: int = 1
    shows: tuple[str, ...] = ()
    asked: Callable[[Recipe], bool] = lambda recipe: False
    kind: str = ""
    section: str = ""

    @property
    def builder(self) -> Builder:
        """The function of `build`."""
        if not isinstance(self.build, str):
            return self.build
        found: Builder = resolve_name(self.build)
        return found


class Graph:
    """Stages in an order in which parents come first.

    Args:
        stages: of one pipeline.
        aliases: other names of stages, for the command line.
    """

    def __init__(self, stages: tuple[Stage, ...], aliases: Mapping[str, str]) -> None:
        self._stages = {stage.name: stage for stage in stages}
        self._aliases = dict(aliases)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._stages.values())

    def __getitem__(self, name: str) -> Stage:
        """A stage by name or alias.

        Raises:
            UsageError: there is none of that name.
        """
        try:
            return self._stages[self._aliases.get(name, name)]
        except KeyError:
            near = get_close_matches(name.lower(), [*self._stages, *self._aliases], 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            stages = f"Stages: {', '.join(self._stages)}."
            raise UsageError(f"No stage {name!r}.", hint + stages) from None

    def with_builder(self, name: str, build: Builder) -> Graph:
        """The same graph, of which one stage is built by another function."""
        other = replace(self[name], build=build)
        stages = tuple(other if stage.name == other.name else stage for stage in self)
        return Graph(stages, self._aliases)

    def up_to(self, name: str, recipe: Recipe) -> list[Stage]:
        """A stage, all that it needs, and of what it shows what is asked for; parents first."""
        wanted = self._ancestors(self[name]) | {self[name].name}
        for other in self[name].shows:
            if self[other].asked(recipe):
                wanted |= self._ancestors(self[other]) | {other}
        return [stage for stage in self._stages.values() if stage.name in wanted]

    def from_on(self, name: str) -> set[str]:
        """Names of a stage and all that depends on it."""
        start = self[name].name
        return {
            stage.name
            for stage in self._stages.values()
            if stage.name == start or start in self._ancestors(stage)
        }

    def depends_on(self, stage: Stage) -> list[Stage]:
        """All that a stage needs, parents first."""
        names = self._ancestors(stage)
        return [other for other in self._stages.values() if other.name in names]

    def asked_for(self, recipe: Recipe) -> set[str]:
        """Names of the stages that a whole run of this recipe has."""
        *_, last = self._stages
        return {stage.name for stage in self.up_to(last, recipe)}

    def recipe_of(self, stage: Stage, run: RunFolder, recipe: Recipe) -> Recipe:
        """The recipe that a stage goes by: the run's, and what it alone was told besides.

        Raises:
            RecipeError: recipe.toml cannot be read.
        """
        overrides = run.overrides(stage.folder)
        return load_recipe(run.recipe_path, overrides) if overrides else recipe

    def key(self, stage: Stage, recipe: Recipe, run: RunFolder, inputs: str) -> str:
        """What the stage's manifest must say to be up to date.

        Args:
            stage: whose parents are done.
            recipe: today's.
            run: with the parents' manifests.
            inputs: fingerprint of the images; only stages without parents depend on it.

        Raises:
            RunError: a parent is not built.
        """
        shown = {
            name: manifest["digest"]
            for name in stage.shows
            if (manifest := run.manifest(self[name].folder)) is not None
        }
        return digest_of_json(
            {
                "stage": stage.name,
                "version": stage.version,
                "options": stage.options(recipe),
                "seed": recipe.seed,
                "parents": self.parent_digests(stage, run),
                "inputs": "" if stage.parents else inputs,
                **({"shows": shown} if shown else {}),
            }
        )

    def parent_digests(self, stage: Stage, run: RunFolder) -> dict[str, str]:
        """Digest of each parent's manifest."""
        digests = {}
        for name in stage.parents:
            manifest = run.manifest(self[name].folder)
            if manifest is None:
                raise RunError(
                    f"{stage.name} needs {name}, which is not built in {run.path}.",
                    "Build it: "
                    + command_text(
                        *("run", run.photos_or("PHOTOS"), "--run", run.path),
                        *("--until", stage.name),
                    ),
                )
            digests[name] = manifest["digest"]
        return digests

    def lineage(self, stage: Stage, run: RunFolder) -> list[dict[str, str]]:
        """Name and digest of every ancestor, the oldest first."""
        names = self._ancestors(stage)
        chain = [ancestor for ancestor in self._stages.values() if ancestor.name in names]
        lineage = []
        for ancestor in chain:
            manifest = run.manifest(ancestor.folder)
            if manifest is not None:
                lineage.append({"stage": ancestor.name, "digest": manifest["digest"]})
        return lineage

    def build(self, stage: Stage, context: Context, key: str) -> float:
        """Build and publish one stage; return the seconds it took.

        Args:
            stage: whose parents are done.
            context: its `out` is replaced by the stage's hidden work folder.
            key: goes into the manifest.

        Raises:
            GateError: the stage judged its result as not fit; it is kept as failed-<folder>.
        """
        run = context.run
        work = run.open_work(stage.folder, key, resumable=stage.resumable)
        if context.overrides:
            (work / OVERRIDES).write_bytes(canonical_json(list(context.overrides)))
        logger.debug("%s: key %s, built in %s", stage.name, key[:12], work)
        start = time.perf_counter()
        try:
            with advising(stage.section):
                result = stage.builder(replace(context, out=work))
        except GateError as error:
            kept = run.keep_failed(stage.folder)
            raise GateError(error.message, f"{error.next_step} Evidence: {kept}".strip()) from error
        wall_s = time.perf_counter() - start
        built = result if isinstance(result, Built) else Built(result)
        fields = {
            "kind": stage.kind or stage.folder,
            "key": key,
            "parents": self.parent_digests(stage, run),
            "lineage": self.lineage(stage, run),
            "options": stage.options(context.recipe),
            "seed": context.recipe.seed,
            "versions": versions(),
            "metrics": dict(built.metrics),
            **built.fields,
        }
        run.publish(stage.folder, fields, runtime(wall_s))
        return wall_s

    def _ancestors(self, stage: Stage) -> set[str]:
        found: set[str] = set()
        for parent in stage.parents:
            found |= {parent} | self._ancestors(self._stages[parent])
        return found


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a result depends on, where installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def runtime(wall_s: float) -> dict[str, Any]:
    """What may differ between equal builds."""
    return {
        "wall_s": round(wall_s, 3),
        "peak_rss_mib": round(peak_rss_mib()),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }

"""The recipe of a run: what a call starts from, and what it leaves when it fails.

A call saves its overrides before it builds, so that a killed one goes on as it was meant. One that
fails takes back those that no built stage depends on: the next call without them is not told of the
same mistake again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serve.contract.digest import digest_of_json
from serve.contract.errors import RecipeError
from stillroom.run.folder import RunFolder
from stillroom.run.recipe import Recipe, load_recipe, recipe_text
from stillroom.run.stage_graph import Graph
from train.engine.progress import say

__all__ = ["DEFAULT_RECIPE", "RunRecipe"]

DEFAULT_RECIPE = "default"


class RunRecipe:
    """The recipe of one call.

    Args:
        run: whose recipe.toml is the source where no other is named.
        source: a file or a shipped name; None takes the run's own, or the default.
        overrides: key=value each.

    Raises:
        RecipeError: as `load_recipe`.
    """

    def __init__(self, run: RunFolder, source: str | None, overrides: Sequence[str]) -> None:
        self._run = run
        self._overrides = tuple(overrides)
        self._before = run.recipe_path.read_bytes() if run.recipe_path.exists() else None
        own = source is None and self._before is not None
        self._source = run.recipe_path if own else Path(source or DEFAULT_RECIPE)
        self.recipe = load_recipe(self._source, overrides)

    @property
    def overrides(self) -> tuple[str, ...]:
        """key=value each, of this call."""
        return self._overrides

    @property
    def before(self) -> Recipe | None:
        """The run's recipe before this call; None where there was none that can be read."""
        if self._before is None:
            return None
        try:
            return load_recipe(self._run.recipe_path)
        except RecipeError:
            return None

    def with_overrides(self, overrides: Sequence[str]) -> Recipe:
        """The recipe of this call, with further overrides that are saved nowhere.

        Raises:
            RecipeError: as `load_recipe`.
        """
        return load_recipe(self._source, [*self._overrides, *overrides])

    def save(self) -> None:
        """Write recipe.toml with the overrides."""
        self._run.write_recipe(recipe_text(self.recipe))

    def take_back(self, graph: Graph, *, built: bool) -> Recipe:
        """Write recipe.toml after a failure, without what no built stage depends on.

        Args:
            graph: of the run.
            built: whether this call built a stage.

        Returns:
            The recipe that is saved now.
        """
        if not built and self._before is not None:
            self._run.write_recipe(self._before.decode())
            return load_recipe(self._run.recipe_path)
        if self._before is not None and self._source.resolve() == self._run.recipe_path.resolve():
            self._run.write_recipe(self._before.decode())  # what the overrides are laid over
        kept = list(self._overrides)
        for override in self._overrides:
            fewer = [other for other in kept if other != override]
            if not self._is_used(graph, load_recipe(self._source, kept), fewer):
                kept = fewer
                say(f"  not kept in recipe.toml, for nothing was built with it: {override}")
        recipe = load_recipe(self._source, kept)
        self._run.write_recipe(recipe_text(recipe))
        return recipe

    def _is_used(self, graph: Graph, recipe: Recipe, fewer: list[str]) -> bool:
        """Whether a published stage was built with `recipe` and not with fewer overrides."""
        try:
            without = load_recipe(self._source, fewer)
        except RecipeError:  # the others are not valid alone
            return True
        for stage in graph:
            manifest = self._run.manifest(stage.folder)
            if manifest is not None:
                made = digest_of_json([manifest.get("options"), manifest.get("seed")])
                now, then = (digest_of_json([stage.options(r), r.seed]) for r in (recipe, without))
                if made == now != then:
                    return True
        return False

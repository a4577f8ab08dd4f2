"""Points of a search space as recipes: checked before anything trains, and applied to one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve.contract.errors import RecipeError
from stillroom.run.recipe import Recipe, load_recipe
from stillroom.sweep.search.space import Choices, Range, Space, Value, override_of

__all__ = ["Point", "check_space", "grid_points", "own_point", "recipe_at", "value_of"]

Point = dict[str, Value]
SECTION = "teacher."


def recipe_at(base: Path, point: Mapping[str, Value]) -> Recipe:
    """The recipe in a file with the values of a point.

    Raises:
        RecipeError: the values do not go together.
    """
    return load_recipe(base, [override_of(key, value) for key, value in point.items()])


def check_space(space: Space, base: Path) -> None:
    """Try every choice and both ends of every range on the recipe, one key at a time.

    Args:
        space: to check.
        base: the recipe file that the points are applied to.

    Raises:
        RecipeError: nothing to search, a key that is not of the teacher, an unknown key (names the
            nearest), or a value that the key does not take.
    """
    if not space.dimensions:
        raise RecipeError(
            "There is nothing to search.",
            "Name choices or ranges: teacher.lr=1e-4..1e-2:log teacher.augment.mixup=0,0.2",
        )
    for key, dimension in space.dimensions.items():
        values = (
            dimension.values if isinstance(dimension, Choices) else (dimension.low, dimension.high)
        )
        for value in values:
            recipe = load_recipe(base, [override_of(key, value)])
        if not key.startswith(SECTION):
            raise RecipeError(
                f"{key} cannot be searched: a search trains the teacher on one split.",
                f"Search keys of {SECTION.rstrip('.')}.",
            )
        if isinstance(dimension, Range) and type(value_of(recipe, key)) not in (int, float):
            raise RecipeError(f"{key} is not a number.", f"Write choices: {key}=a,b")


def grid_points(space: Space) -> list[Point]:
    """Every combination of the choices, the last key changing fastest.

    Raises:
        RecipeError: a range, which has no last point.
    """
    for key, dimension in space.dimensions.items():
        if isinstance(dimension, Range):
            raise RecipeError(
                f"{key} = {dimension.describe()}: a grid needs choices.",
                f"Write {key}={dimension.low:g},{dimension.high:g}, or take --sampler tpe.",
            )
    columns = [
        [(key, value) for value in dimension.values]
        for key, dimension in space.dimensions.items()
        if isinstance(dimension, Choices)
    ]
    return [dict(row) for row in itertools.product(*columns)]


def own_point(space: Space, recipe: Recipe) -> Point | None:
    """The recipe's own values, where all of them lie in the space."""
    point = {key: value_of(recipe, key) for key in space.dimensions}
    for key, dimension in space.dimensions.items():
        value = point[key]
        if isinstance(dimension, Choices):
            if value not in dimension.values:
                return None
            point[key] = dimension.values[dimension.values.index(value)]  # 0 where it wrote 0
        elif not dimension.low <= value <= dimension.high:
            return None
    return point


def value_of(recipe: Recipe, key: str) -> Any:
    """The value of a dotted key."""
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value

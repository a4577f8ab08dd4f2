"""The recipe: TOML and key=value overrides become one frozen value, or a clear error."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from compress.options import DistilOptions, FixResOptions
from export.options import ExportOptions
from serve.contract.errors import RecipeError
from stillroom.run.options import AblationOptions, LoadOptions, ServeOptions
from stillroom.run.recipe_keys import nearest_key
from train.options import DataOptions, TrainOptions

__all__ = ["Recipe", "load_recipe", "recipe_keys", "recipe_text", "shipped_recipes"]


@dataclass(frozen=True)
class Recipe:
    """Everything a run is told. Every field has a default; a recipe names what differs."""

    name: str = ""  # of the served model; empty: the name of the images' folder
    seed: int = 0  # of every random draw
    data: DataOptions = field(default_factory=DataOptions)
    teacher: TrainOptions = field(default_factory=TrainOptions)
    student: TrainOptions = field(default_factory=TrainOptions)
    distil: DistilOptions = field(default_factory=DistilOptions)
    fixres: FixResOptions = field(default_factory=FixResOptions)
    export: ExportOptions = field(default_factory=ExportOptions)
    serve: ServeOptions = field(default_factory=ServeOptions)
    loadtest: LoadOptions = field(default_factory=LoadOptions)
    ablation: AblationOptions = field(default_factory=AblationOptions)


class _Words(str):
    """Text of an override that is not TOML: a text, or a list with commas between its texts."""


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        source: a .toml file, or the name of a shipped recipe.
        overrides: "section.key=value" each; the value is TOML, or plain text where it is none, of a
            list with commas: a,b

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key (names the nearest valid one), or a
            value of the wrong type; names the file where that is at fault.
    """
    values = _read(source)
    for override in overrides:
        _override(values, override)
    try:
        recipe: Recipe = _changed(Recipe(), values, "")
    except RecipeError as error:
        if Path(source).is_file() and not any(o.partition("=")[0] in str(error) for o in overrides):
            error.message = f"{source}: {error.message}"
        raise
    return recipe


def recipe_text(recipe: Recipe) -> str:
    """The resolved recipe as TOML: every key, no comment."""
    return tomli_w.dumps(asdict(recipe))


def recipe_keys() -> list[str]:
    """Every key that holds a value, dotted, in the order of the recipe."""
    every = list(_all_keys(Recipe, ""))
    sections = {key.rpartition(".")[0] for key in every}
    return [key for key in every if key not in sections]


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with stillroom, by name."""
    folder = Path(str(resources.files("stillroom") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _read(source: str | Path) -> dict[str, Any]:
    shipped = shipped_recipes()
    path = shipped.get(str(source), Path(source))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(str(source).lower(), shipped, 1)
        raise RecipeError(
            f"No recipe {str(source)!r}: neither a file nor one of {', '.join(shipped)}.",
            f"Did you mean --recipe {near[0]}?" if near else "Give a .toml file with --recipe.",
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} is not readable TOML: {error}.") from error


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"{override!r} is not an override.", "Write section.key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = _Words(text)
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f"{section!r} in {override!r} is a value, not a section.")
    values[last] = value


def _changed(default: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """A copy of a default with other values: two sections of one type may start differently."""
    hints = typing.get_type_hints(type(default))
    known = {entry.name for entry in fields(default)}
    arguments = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise _unknown(name, value)
        hint = hints[key]
        if is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise RecipeError(f"{name} = {value!r}: expected a section [{name}].")
            arguments[key] = _changed(getattr(default, key), value, f"{name}.")
        else:
            arguments[key] = _checked(name, value, hint)
    try:
        return replace(default, **arguments)
    except ValueError as error:
        raise RecipeError(f"{prefix}{error}.") from error


def _checked(name: str, value: Any, hint: Any) -> Any:
    if isinstance(value, _Words):
        value = _listed(value) if hint == tuple[str, ...] else str(value)
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise RecipeError(f"{name} = {value!r}: expected one of {', '.join(choices)}.")
        return value
    if hint in (tuple[str, ...], dict[str, str]):
        return _checked_texts(name, value, hint)
    if isinstance(hint, types.UnionType):  # no recipe key has one; a new one must say how
        raise TypeError(f"{name}: union types are not read from recipes.")
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise RecipeError(f"{name} = {value!r}: expected {_word_for(hint)}.")
    if hint in (int, float) and value < 0:
        raise RecipeError(f"{name} = {value!r}: expected 0 or more.")
    return value


def _listed(words: str) -> list[str]:
    """Texts with commas between them, as a command line has them; brackets do not count."""
    return [word.strip() for word in words.strip("[] ").split(",") if word.strip()]


def _checked_texts(name: str, value: Any, hint: Any) -> Any:
    is_list = hint == tuple[str, ...]
    entries = value.values() if isinstance(value, dict) else value
    if type(value) is not (list if is_list else dict) or any(type(e) is not str for e in entries):
        example = "a list of texts, such as ['a', 'b']" if is_list else 'texts, such as {a = "b"}'
        raise RecipeError(f"{name} = {value!r}: expected {example}.")
    return tuple(value) if is_list else dict(value)


def _unknown(name: str, value: Any) -> RecipeError:
    while isinstance(value, Mapping) and len(value) == 1:  # a.b.c=1 where a is missing
        ((key, value),) = value.items()
        name = f"{name}.{key}"
    near = nearest_key(name, list(_all_keys(Recipe, "")))
    hint = f"Did you mean {near.key!r}?" if near else f"Sections: {', '.join(_sections())}."
    return RecipeError(f"Unknown recipe key {name!r}.", hint)


def _all_keys(cls: type[Any], prefix: str) -> typing.Iterator[str]:
    hints = typing.get_type_hints(cls)
    for entry in fields(cls):
        yield f"{prefix}{entry.name}"
        if is_dataclass(hints[entry.name]):
            yield from _all_keys(hints[entry.name], f"{prefix}{entry.name}.")


def _sections() -> list[str]:
    return [entry.name for entry in fields(Recipe)]


def _word_for(hint: Any) -> str:
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[hint]

"""What a search may vary: choices and ranges of recipe keys, from a TOML file and key=value."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from serve.contract.errors import RecipeError

__all__ = ["Choices", "Range", "Space", "StudyOptions", "Value", "override_of", "read_space"]

STUDY = "study"
RANGE_KEYS = {"low", "high", "log"}
Value = str | int | float | bool


@dataclass(frozen=True)
class Choices:
    """One of some values."""

    values: tuple[Value, ...]

    def describe(self) -> str:
        """For people: 0, 0.2 or 0.5."""
        return ", ".join(f"{value}" for value in self.values)


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included; `log` spreads it over orders of magnitude."""

    low: float
    high: float
    log: bool = False

    def describe(self) -> str:
        """For people: 0.0001 to 0.01, logarithmic."""
        return f"{self.low:g} to {self.high:g}{', logarithmic' if self.log else ''}"


Dimension = Choices | Range


@dataclass(frozen=True)
class StudyOptions:
    """What of a search is seldom changed; [study] of the space file, or study.key=value."""

    pruner: Literal["median", "hyperband", "none"] = "median"  # which trials are given up early
    keep: Literal["best", "all"] = "best"  # whose checkpoints stay


@dataclass(frozen=True)
class Space:
    """What is searched, and what is fixed.

    Args:
        dimensions: by recipe key.
        overrides: "key=value" each, of the keys that are fixed.
        study: how the search runs.
    """

    dimensions: dict[str, Dimension]
    overrides: tuple[str, ...]
    study: StudyOptions


def read_space(path: Path | None, inline: Sequence[str]) -> Space:
    """Read the space; what is given inline wins over the file.

    Args:
        path: TOML of recipe sections, where a list is choices and {low, high, log} a range.
        inline: "key=1e-4..1e-2:log", "key=0,0.2", or "key=value", which is fixed.

    Raises:
        RecipeError: not readable, or no range where one was meant. Whether the recipe has the keys
            is not looked at here.
    """
    found: dict[str, Dimension | str] = dict(_of_file(path)) if path else {}
    for entry in inline:
        key, separator, text = entry.partition("=")
        if not separator or not key or not text:
            raise RecipeError(
                f"{entry!r} is neither an override nor a dimension.",
                "Write key=value, key=a,b,c or key=low..high[:log].",
            )
        found.pop(key, None)  # its place is where it was said last
        found[key] = _of_text(key, text)
    study = {key: value for key, value in found.items() if key.startswith(f"{STUDY}.")}
    rest = {key: value for key, value in found.items() if key not in study}
    return Space(
        {key: value for key, value in rest.items() if not isinstance(value, str)},
        tuple(f"{key}={value}" for key, value in rest.items() if isinstance(value, str)),
        _study(study),
    )


def override_of(key: str, value: Value) -> str:
    """key=value as the recipe reads it: the value is TOML."""
    return f"{key}={json.dumps(value)}"


def _of_file(path: Path) -> Iterator[tuple[str, Dimension | str]]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"No space file {path}.", "Give a .toml file with --space.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} is not readable TOML: {error}.") from error
    yield from _flat(values, "")


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Dimension | str]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            if "low" in value or "high" in value:
                yield key, _of_table(key, value)
            else:
                yield from _flat(value, f"{key}.")
        elif isinstance(value, list):
            yield key, _choices(key, value)
        else:
            yield key, json.dumps(value)


def _of_table(key: str, value: Mapping[str, Any]) -> Range:
    if set(value) - RANGE_KEYS or not {"low", "high"} <= set(value):
        raise RecipeError(
            f"{key} = {dict(value)!r}: expected a range {{low = ..., high = ..., log = true}}."
        )
    return _range(key, value["low"], value["high"], value.get("log", False))


def _of_text(key: str, text: str) -> Dimension | str:
    if ".." in text and text[0] in "+-0123456789":
        ends, _, scale = text.partition(":")
        low, _, high = ends.partition("..")
        if scale not in ("", "log"):
            raise RecipeError(f"{key}={text}: {scale!r} is not a scale.", "Write low..high:log.")
        return _range(key, _value(low), _value(high), scale == "log")
    if isinstance(whole := _value(text), list):
        return _choices(key, whole)
    if "," in text and not text.startswith('"'):
        return _choices(key, [_value(part.strip()) for part in text.split(",")])
    return text


def _range(key: str, low: Any, high: Any, log: Any) -> Range:
    numbers = all(type(end) in (int, float) for end in (low, high))
    if not numbers or not low < high or not isinstance(log, bool):
        raise RecipeError(
            f"{key}: {low!r} to {high!r} is not a range of numbers.", "Write low..high, low < high."
        )
    if log and not low > 0:
        raise RecipeError(
            f"{key}: a logarithmic range cannot begin at {low!r}.", "Begin it above 0."
        )
    return Range(low, high, log)


def _choices(key: str, values: list[Any]) -> Choices:
    if len(values) < 2 or any(type(value) not in get_args(Value) for value in values):
        raise RecipeError(f"{key} = {values!r}: expected two or more values to choose from.")
    if len(set(values)) < len(values):
        raise RecipeError(f"{key} = {values!r}: a value is there twice.")
    return Choices(tuple(values))


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _study(found: Mapping[str, Dimension | str]) -> StudyOptions:
    values: dict[str, Any] = {}
    hints = get_type_hints(StudyOptions)
    for key, value in found.items():
        name = key.partition(".")[2]
        if name not in hints:
            names = ", ".join(f"{STUDY}.{field.name}" for field in fields(StudyOptions))
            raise RecipeError(f"Unknown key {key!r}.", f"There are {names}.")
        plain = _value(value) if isinstance(value, str) else value
        if plain not in get_args(hints[name]):
            expected = ", ".join(get_args(hints[name]))
            raise RecipeError(f"{key} = {plain!r}: expected one of {expected}.")
        values[name] = plain
    return StudyOptions(**values)

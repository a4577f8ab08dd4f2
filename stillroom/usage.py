"""What the console says of a call that it cannot take: what was meant."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

import typer

from serve.contract.errors import RecipeError
from stillroom.command_text import command_text
from stillroom.run.recipe import load_recipe, recipe_keys
from stillroom.run.recipe_keys import Near, nearest_key

__all__ = ["usage_error"]

OF_COMMAND = {"compress": ("student", "distil", "fixres"), "export": ("export",)}
TAKES_KEYS = ("overrides", "entries")


def usage_error(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """One line for a call that Typer refuses; an option that is a recipe key is told as one.

    Args:
        error: of Typer.
        arguments: of the call, without the program's name.
    """
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "stillroom"
    message = error.format_message().rstrip(".").replace("?.", "?")
    if type(error).__name__ == "NoArgsIsHelpError":
        return error.format_message()
    option = getattr(error, "option_name", None) or ""
    near = _near(option, command) if option.startswith("--") else None
    if near and (near.is_exact or not getattr(error, "possibilities", None)):
        key = f"{near.key}={_value_for(near.key, option, arguments)}"
        takes = context is not None and any(p.name in TAKES_KEYS for p in context.command.params)
        how = shlex.quote(key) if takes else command_text("run", "PHOTOS", key)
        what = "It is" if near.is_exact else f"See {command} --help; near it is"
        return (
            f"error: No such option: {option}. {what} a key of the recipe, written without "
            f"dashes: {how}"
        )
    ends = "" if message.endswith(("?", "!")) else "."
    return f"error: {message}{ends} See {command} --help."


def _near(option: str, command: str) -> Near | None:
    return nearest_key(option, recipe_keys(), OF_COMMAND.get(command.split()[-1], ()), like=0.75)


def _value_for(key: str, option: str, arguments: Sequence[str]) -> str:
    """The value that came with the option, as the recipe takes it; the recipe's own else."""
    written = next((a for a in arguments if a.partition("=")[0] == option), option)
    _, has_value, value = written.partition("=")
    if not has_value and written in arguments:
        value = next(iter(arguments[arguments.index(written) + 1 :]), "")
    for text in (value, json.dumps([value])):
        try:
            if value:
                load_recipe("default", [f"{key}={text}"])
                return text
        except RecipeError:
            continue
    own: Any = load_recipe("default")
    for word in key.split("."):
        own = getattr(own, word)
    return own if isinstance(own, str) else json.dumps(own)

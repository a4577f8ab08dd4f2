"""Advice of a training in the words of a recipe: whose key `batch_size` is depends on the stage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from serve.contract.errors import StillroomError
from stillroom.run.recipe import recipe_keys

__all__ = ["advising", "in_section"]


def in_section(section: str, text: str) -> str:
    """Words of a training, which knows no section, as the recipe has them: keys with the section.

    Args:
        section: of the recipe, such as teacher.
        text: which may say `weights=none`, `drop_path_rate = 0` or `lower batch_size`.
    """
    keys = [key.removeprefix(f"{section}.") for key in recipe_keys() if key.startswith(section)]
    every, long = (
        "|".join(re.escape(key) for key in sorted(chosen, key=len, reverse=True))
        for chosen in (keys, [key for key in keys if "_" in key])
    )
    told = re.sub(rf"(?<![\w.-])({every}) ?= ?(?=\S)", rf"{section}.\1=", text)
    return re.sub(rf"(?<![\w.-])({long})(?![\w=])", rf"{section}.\1", told)


@contextmanager
def advising(section: str) -> Iterator[None]:
    """Let errors of a training speak of the recipe's keys, whose section it is; "" leaves them."""
    try:
        yield
    except StillroomError as error:
        if section:
            error.message = in_section(section, error.message)
            step = in_section(section, error.next_step)
            error.next_step = re.sub(r"(=\S+)\.$", r"\1", step)  # a value is copied as it stands
        raise

"""Lists on the command line: 96,128,160."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from serve.contract.errors import UsageError

__all__ = ["names", "numbers", "sizes_px"]

T = TypeVar("T", int, float)


def sizes_px(text: str, option: str, *, least: int = 16, most: int = 4096) -> tuple[int, ...]:
    """Whole numbers in rising order.

    Raises:
        UsageError: not a list of whole numbers, one is out of range, or one is there twice.
    """
    return tuple(sorted(numbers(text, option, int, least, most)))


def numbers(text: str, option: str, kind: Callable[[str], T], least: T, most: T) -> tuple[T, ...]:
    """Numbers, each once, between `least` and `most`.

    Raises:
        UsageError: as `sizes_px`.
    """
    try:
        values = tuple(kind(part) for part in names(text, option))
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is not a list of numbers.", "Write 96,128,160."
        ) from None
    for value in values:
        if not least <= value <= most:
            raise UsageError(f"{option}: {value} is not between {least} and {most}.")
    return values


def names(text: str, option: str) -> tuple[str, ...]:
    """Parts between commas, each once.

    Raises:
        UsageError: none, or one is there twice.
    """
    values = tuple(part.strip() for part in text.split(",") if part.strip())
    if not values or len(set(values)) < len(values):
        raise UsageError(f"{option} {text!r}: expected different values between commas.")
    return values

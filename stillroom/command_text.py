"""Commands that are printed for people to copy."""

from __future__ import annotations

import shlex

__all__ = ["command_text"]


def command_text(*words: object) -> str:
    """A command of stillroom that runs as it is printed, whatever its paths hold.

    Words in capitals, such as PHOTOS, stand for what the reader alone knows.
    """
    return shlex.join(["stillroom", *map(str, words)])

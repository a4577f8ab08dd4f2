"""What is named by text and imported when it is asked for: the optional, and the slow."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["load_named"]


def load_named(target: str) -> Any:
    """What "module:attribute" names."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)

"""Names of timm's models, without the half minute that importing it can take."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from importlib import metadata
from pathlib import Path

from serve.contract.errors import UsageError

__all__ = ["check_model_name", "model_names"]

REGISTERED = re.compile(r"^@register_model\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@cache
def model_names() -> tuple[str, ...]:
    """What timm.list_models() gives, read from timm's files; empty where timm is not installed."""
    spec = importlib.util.find_spec("timm")
    folders = (
        [Path(at) / "models" for at in (spec.submodule_search_locations or ())] if spec else []
    )
    files = (path for folder in folders for path in sorted(folder.glob("*.py")))
    found = {name for path in files for name in REGISTERED.findall(path.read_text("utf-8"))}
    return tuple(sorted(found))


def check_model_name(name: str, key: str = "") -> None:
    """Refuse what timm has no model of; take anything where timm is not installed.

    Args:
        name: as a recipe or an option gives it.
        key: of the recipe, or the option, that gives it; empty where nobody knows.

    Raises:
        UsageError: names those that are called like it.
    """
    names = model_names()
    if not names or name in names:
        return
    near = difflib.get_close_matches(name.split(".")[0], names, 4)
    put = f"{key}{'=' if '.' in key else ' '}" if key else ""
    step = f"Near it: {put}{near[0]}" if near else "See timm.list_models()."
    more = f", {', '.join(near[1:])}" if near[1:] else ""
    said = f"{key} = {name!r}: " if key else ""
    ends = "." if near else ""
    raise UsageError(
        f"{said}timm {metadata.version('timm')} has no model {name!r}.", f"{step}{more}{ends}"
    )

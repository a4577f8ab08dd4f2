"""The Jinja environment of all pages: templates beside it, numbers as `wording` writes them."""

from __future__ import annotations

import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stillroom.page import format as wording

__all__ = ["page_environment"]

TEMPLATES = Path(__file__).parent / "templates"


def page_environment() -> Environment:
    """Everything is escaped; an unknown name is an error; `stylesheet` is a global."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(wording, name) for name in wording.__all__ if name[0].islower()
    }
    environment.filters["quoted"] = lambda value: shlex.quote(str(value))  # in printed commands
    environment.globals["stylesheet"] = Markup((TEMPLATES / "style.css").read_text("utf-8"))
    return environment

"""docs/recipe.md says every key and variable, and what each does."""

from __future__ import annotations

import re
from pathlib import Path

from stillroom.run.recipe import recipe_keys
from stillroom.run.recipe_reference import CORE, reference

ROOT = Path(__file__).parents[3]
# Between our own processes; nobody sets them.
INTERNAL = {"STILLROOM_CORPUS", "STILLROOM_LENT", "STILLROOM_POINTER", "STILLROOM_ROUTE"}


def test_the_page_is_what_the_code_says():
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == reference()


def test_every_key_has_its_line_with_a_meaning():
    rows = re.findall(r"^\| \**`([a-z0-9_.]+)`.*\| (.*) \|$", reference(), re.M)
    assert {key for key, meaning in rows if meaning.strip()} == {
        key for key in recipe_keys() if not key.startswith("student.")
    }


def test_every_variable_is_named():
    named = set(re.findall(r"STILLROOM_[A-Z_]*[A-Z]", reference()))
    sources = [
        p for d in ("serve", "stillroom", "train", "loadtest") for p in (ROOT / d).rglob("*.py")
    ]
    read = {
        name for p in sources for name in re.findall(r"\bSTILLROOM_[A-Z_]*[A-Z]", p.read_text())
    }
    assert read - INTERNAL <= named


def test_the_core_is_small_and_exists():
    assert len(CORE) <= 40
    assert set(CORE) <= set(recipe_keys())

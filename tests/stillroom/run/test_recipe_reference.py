"""docs/recipe.md says every key and variable, and what each does."""

from __future__ import annotations

import re
from pathlib import Path

from stillroom.run.recipe import recipe_keys
from stillroom.run.recipe_reference import CORE, ENVIRONMENT, reference
from train.data.shards.cache import DEFAULT_MIB, ENV_LIMIT

ROOT = Path(__file__).parents[3]


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
        name for p in sources for name in re.findall(r"\"(STILLROOM_[A-Z_]*[A-Z])\"", p.read_text())
    }
    assert {"STILLROOM_CACHE", "STILLROOM_CORPUS", "STILLROOM_TOKEN"} <= read <= named


def test_the_limit_of_shards_is_that_of_their_cache():
    assert ENVIRONMENT[ENV_LIMIT][0] == f"`{DEFAULT_MIB}`"


def test_the_core_is_small_and_exists():
    assert len(CORE) <= 40
    assert set(CORE) <= set(recipe_keys())


def test_every_number_but_the_seed_has_a_range():
    rows = re.findall(r"^\| \**`([a-z0-9_.]+)`\** \| (?:int|float) \| (.*?) \|", reference(), re.M)
    assert {key for key, range_ in rows if not range_.strip()} == {"seed"}

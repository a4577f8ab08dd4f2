"""The documents keep their word: links resolve, commands and options exist, no private names."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from serve.settings import Settings
from stillroom.run.recipe import load_recipe, shipped_recipes

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)#]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:uv run |^ *|`)stillroom ([a-z]+)", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_resolve(document):
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        if not target.startswith(("http", "mailto")):
            assert (document.parent / target).exists(), target


def test_every_command_in_the_documents_exists():
    done = subprocess.run(
        [sys.executable, "-m", "stillroom", "--help"], capture_output=True, text=True, check=True
    )
    for document in DOCUMENTS:
        for command in COMMAND.findall(document.read_text(encoding="utf-8")):
            assert f" {command} " in done.stdout, f"{document.name}: stillroom {command}"


def test_every_variable_in_the_documents_is_a_setting():
    known = {f"STILLROOM_{name.upper()}" for name in Settings.__dataclass_fields__}
    known |= {"STILLROOM_TEST_PHOTOS", "STILLROOM_SOAK", "STILLROOM_CORPUS", "STILLROOM_CACHE"}
    known |= {"STILLROOM_SHARD_CACHE_MIB"}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert set(re.findall(r"STILLROOM_[A-Z_]+[A-Z]", text)) <= known, document.name


def test_every_recipe_named_in_the_readme_is_shipped():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--recipe ([a-z-]+)", text))
    assert named
    for name in named:
        assert name in shipped_recipes()
        load_recipe(name)


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    done = subprocess.run(
        [sys.executable, "-m", "stillroom", "--version"], capture_output=True, text=True, check=True
    )
    assert project["version"] in done.stdout

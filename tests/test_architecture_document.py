"""docs/architecture.md is drawn from the packages: its arrows, its map and its paths are theirs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
PACKAGES = ("train", "compress", "export", "serve", "loadtest", "stillroom")
ROW = re.compile(r"^\| (.+?) \| (.+?) \|$", re.MULTILINE)


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def folders() -> list[Path]:
    found = [path.parent for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")]
    return sorted(path.relative_to(ROOT) for path in found)


def sentence_of(folder: Path) -> str:
    doc = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text()))
    assert doc, folder
    return doc.splitlines()[0]


def test_the_map_has_each_folder_with_its_own_sentence() -> None:
    rows = dict(ROW.findall(section("The map")))
    del rows["folder"]
    assert rows == {f"`{folder}/`": sentence_of(folder) for folder in folders()}


def test_the_arrows_are_the_imports() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", section("The picture"), re.MULTILINE))
    assert drawn == imported()


def test_each_path_exists() -> None:
    paths = re.findall(r"`([a-z_]+/[\w/.]+)`", TEXT)
    made = re.compile(r"(data|teacher|baseline|student|fixres|artifact|loadtest|report|golden)/")
    assert [path for path in paths if not made.match(path) and not (ROOT / path).exists()] == []


def test_it_says_where_to_change_what() -> None:
    rows = dict(ROW.findall(section("I want to change ...")))
    assert len(rows) >= 25


def imported() -> set[tuple[str, str]]:
    """Packages and what they import, at most one arrow where another leads there too."""
    found = set()
    for name in PACKAGES:
        for path in (ROOT / name).rglob("*.py"):
            here = "contract" if path.is_relative_to(ROOT / "serve" / "contract") else name
            for module in modules_of(path):
                there = "contract" if f"{module}.".startswith("serve.contract.") else module
                there = there.split(".")[0]
                if there in (*PACKAGES, "contract") and there != here:
                    found.add((here, there))
    # stillroom and export reach the contract through serve; serve's __init__ settles the process
    return {
        pair for pair in found if pair not in {("export", "contract"), ("stillroom", "contract")}
    }


def modules_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""}
    return found

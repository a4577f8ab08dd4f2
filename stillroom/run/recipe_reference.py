"""Recipe reference: docs/recipe.md, written from the dataclasses of the recipe and the settings.

    python -m stillroom.run.recipe_reference > docs/recipe.md

A key's meaning is the comment beside its field, its range what a refusal says it expects.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any

from serve.settings import LARGEST, LEAST, Settings
from stillroom.run.recipe import Recipe

__all__ = ["CORE", "ENVIRONMENT", "reference"]

# What most people set; the rest is for those who know why.
CORE = [
    "name",
    "seed",
    "data.val_fraction",
    "data.test_fraction",
    "data.splits",
    "data.class_level",
    "data.unreadable",
    "teacher.arch",
    "teacher.weights",
    "teacher.train_size_px",
    "teacher.test_size_px",
    "teacher.epochs",
    "teacher.lr",
    "teacher.head_epochs",
    "teacher.batch_size",
    "teacher.balance_limit",
    "teacher.augment.min_scale",
    "teacher.augment.mixup",
    "teacher.workers",
    "student.arch",
    "student.weights",
    "student.train_size_px",
    "student.epochs",
    "student.lr",
    "student.batch_size",
    "distil.kd_weight",
    "distil.temperature",
    "distil.teacher_size_px",
    "distil.unlabelled",
    "fixres.test_size_px",
    "fixres.epochs",
    "export.source",
    "export.precisions",
    "loadtest.duration_s",
    "loadtest.slo",
]
ENVIRONMENT = {  # those that are not settings of the service: default, range, meaning
    "STILLROOM_CACHE": (
        "`$XDG_CACHE_HOME/stillroom`, else `~/.cache/stillroom`",
        "",
        "folder of decoded images, engines and downloaded shards",
    ),
    "STILLROOM_SHARD_CACHE_MIB": ("`32768`", "1 or more", "MiB of downloaded shards that are kept"),
    "STILLROOM_CORPUS": (
        "",
        "",
        "folder of images that `locust -f loadtest/locustfile.py` sends",
    ),
}
UNITS = {"px": "px", "s": "s", "ms": "ms", "mib": "MiB", "deg": "degrees", "megapixels": "10^6 px"}
PROBES: tuple[Any, ...] = (-1, -1.0, 0, 0.0, 10**9, 1e9, "?")


def reference() -> str:
    """The page, as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from [
        "# Every key of a recipe, every environment variable",
        "",
        "Written by `python -m stillroom.run.recipe_reference`; a test holds it to the code.",
        "Keys are set in a recipe, or behind a command: `stillroom run PHOTOS student.lr=1e-3`.",
        "`student.*` has the keys of `teacher.*`. **Bold** keys are those that most people set.",
    ]
    own = [one for one in fields(Recipe) if not is_dataclass(_default(one))]
    yield from _table("recipe", Recipe(), own, "")
    for one in fields(Recipe):
        section = _default(one)
        if is_dataclass(section) and one.name != "student":
            yield from _section(section, one.name)
    yield from ["", "## Environment variables", "", "| variable | default | range | what |"]
    yield "|---|---|---|---|"
    meanings = _arguments(Settings)
    for one in fields(Settings):
        default = "" if one.default is MISSING else one.default
        range_ = ""
        if isinstance(default, int):
            range_ = f"{LEAST.get(one.name, 1)} to {LARGEST.get(one.name, 4096)}"
        name = f"STILLROOM_{one.name.upper()}"
        yield f"| `{name}` | {_shown(default)} | {range_} | {meanings[one.name]} |"
    for name, cells in ENVIRONMENT.items():
        yield f"| `{name}` | {' | '.join(cells)} |"


def _section(section: Any, path: str) -> Iterator[str]:
    plain = [one for one in fields(section) if not is_dataclass(getattr(section, one.name))]
    yield from _table(path, section, plain, f"{path}.")
    for one in fields(section):
        if is_dataclass(inner := getattr(section, one.name)):
            yield from _section(inner, f"{path}.{one.name}")


def _table(title: str, section: Any, entries: list[Field[Any]], prefix: str) -> Iterator[str]:
    meanings, hints = _comments(type(section)), typing.get_type_hints(type(section))
    yield from ["", f"## {title}", "", (inspect.getdoc(type(section)) or "").split("\n")[0], ""]
    yield from ["| key | type | range | unit | default | what |", "|---|---|---|---|---|---|"]
    for one in entries:
        key = f"{prefix}{one.name}"
        name = f"**`{key}`**" if key in CORE else f"`{key}`"
        unit = UNITS.get(one.name.rpartition("_")[2], "")
        type_, range_ = _type(hints[one.name]), _range(section, one.name)
        default = _shown(getattr(section, one.name))
        yield f"| {name} | {type_} | {range_} | {unit} | {default} | {meanings[one.name]} |"


def _default(one: Field[Any]) -> Any:
    return one.default_factory() if one.default_factory is not MISSING else one.default


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " ".join(f"`{value}`" for value in typing.get_args(hint))
    return str(getattr(hint, "__name__", hint) if isinstance(hint, type) else hint)


def _range(section: Any, name: str) -> str:
    """What the refusal of some value that cannot be says it expects."""
    for value in PROBES:
        if type(value) is not type(getattr(section, name)):
            continue
        try:
            replace(section, **{name: value})
        except ValueError as error:
            if (found := re.match(rf"{name} = [^:]*: expected (.*)", str(error))) is not None:
                return found[1]
    return ""


def _shown(value: Any) -> str:
    return f"`{value!r}`".replace("|", "\\|") if value not in ("", (), {}) else ""


def _comments(kind: type) -> dict[str, str]:
    """Of each field: the comment behind it, else the one above it."""
    lines = textwrap.dedent(inspect.getsource(kind)).split("\n")
    [tree] = ast.parse("\n".join(lines)).body
    found = {}
    for node in typing.cast(ast.ClassDef, tree).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above: list[str] = []
            row = node.lineno - 2
            while lines[row].startswith("    # "):
                above.insert(0, lines[row][6:])
                row -= 1
            behind = lines[(node.end_lineno or 0) - 1].partition("  # ")[2]
            found[node.target.id] = " ".join(filter(None, [*above, behind])).replace("|", "\\|")
    return found


def _arguments(kind: type) -> dict[str, str]:
    """Of each argument: what the docstring says."""
    text = (inspect.getdoc(kind) or "").partition("Args:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.M)
    return {name: re.sub(r"\s+", " ", meaning) for name, meaning in found}


if __name__ == "__main__":
    sys.stdout.write(reference())

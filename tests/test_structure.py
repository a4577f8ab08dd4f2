"""The structure of the project: folders, circles, names, and what is core and what optional.

What is optional is loaded when it is asked for: by a command of its own, or by its name
("module:attribute") in a table of the hook that it plugs into. No core module imports it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("train", "compress", "export", "serve", "loadtest", "stillroom")
MOST_FILES, MOST_LINES = 15, 400
OPTIONAL = (
    "train.data.shards",
    "train.extras",
    "export.bilinear_graph",
    "export.diagnose",
    "export.foreign",
    "export.precision",
    "serve.engines",
    "serve.http.oip_v2",
    "serve.process.hot_reload",
    "serve.telemetry.drift",
    "serve.telemetry.tracing",
    "loadtest.extras",
    "stillroom.ablation",
    "stillroom.extras",
    "stillroom.sweep",
)
# What a user types to get an optional part; the command line loads these by name.
DOORS = {
    "train.nonfinite": "python -m train.nonfinite",
    "loadtest.compare": "python -m loadtest.compare",
    "loadtest.worker": "python -m loadtest.worker",
    "stillroom.commands.artifact": "stillroom export, import, mobile, engines",
    "stillroom.commands.service.admin": "stillroom admin",
    "stillroom.commands.studies": "stillroom sweep, ablate",
    "stillroom.commands.training": "stillroom train --sanity, --profile; compress --search",
    "stillroom.parity": "stillroom parity of any two files",
}
# The engine of training and the worker of the service stay small enough to be read whole.
MOST_LOADED = {"train.engine.loop": 15}
TWICE = {"UsageError", "ServiceError"}  # loadtest imports nothing of ours: it has its own errors


def test_no_folder_is_full() -> None:
    files = Counter(path.parent for path in sources() if path.name != "__init__.py")
    assert {str(folder): n for folder, n in files.items() if n > MOST_FILES} == {}


def test_no_file_is_long() -> None:
    long = {str(path): n for path in sources() if (n := len(text(path).splitlines())) > MOST_LINES}
    assert long == {}


def test_every_package_says_what_it_is() -> None:
    folders = {path.parent for path in sources()}
    missing = [str(folder) for folder in folders if not (folder / "__init__.py").exists()]
    assert missing == []
    silent = [
        str(folder) for folder in folders if not ast.get_docstring(tree(folder / "__init__.py"))
    ]
    assert silent == []


def test_there_is_no_circle() -> None:
    graph = imports(inits=False)
    circles = {frozenset(b for b in loaded(a, graph) if a in loaded(b, graph)) for a in graph}
    assert [sorted(circle) for circle in circles if len(circle) > 1] == []


def test_one_class_name_means_one_thing() -> None:
    found = defaultdict(list)
    for path in sources():
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path))
    twice = {name: where for name, where in found.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in TWICE} == {}


def test_core_never_imports_what_is_optional() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in imports(inits=False).items()
        for other in others
        if is_below(other, OPTIONAL) and not is_below(name, (*OPTIONAL, *DOORS))
    ]
    assert wrong == []
    modules = module_files()
    assert [name for name in (*OPTIONAL, *DOORS) if name not in modules] == []


@pytest.mark.parametrize("module", MOST_LOADED)
def test_what_is_read_first_loads_little(module: str) -> None:
    found = loaded(module, imports(inits=True))
    modules = module_files()
    counted = sorted(
        name
        for name in found
        if modules[name].name != "__init__.py" or len(text(modules[name]).splitlines()) > 20
    )
    assert len(counted) <= MOST_LOADED[module], counted


def is_below(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@cache
def sources() -> tuple[Path, ...]:
    return tuple(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path))


@cache
def module_files() -> dict[str, Path]:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources()}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


@cache
def imports(*, inits: bool) -> dict[str, frozenset[str]]:
    """Module -> ours that it imports, inside functions too, but not for types alone.

    With `inits` also the `__init__` of every package on the way to them, which Python runs.
    """
    modules = module_files()
    found = {}
    for name, path in modules.items():
        named = {other for node in run(tree(path)) for other in names_of(node)}
        ours = {other for other in named if other in modules and other != name}
        if inits:
            for other in list(ours):
                parts = other.split(".")
                ours |= {".".join(parts[:n]) for n in range(1, len(parts))}
        else:
            ours = {other for other in ours if modules[other].name != "__init__.py"}
        found[name] = frozenset(ours - {name})
    return found


def run(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those below `if TYPE_CHECKING`."""
    yield node
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    for child in ast.iter_child_nodes(node):
        yield from run(child)


def names_of(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def loaded(start: str, graph: dict[str, frozenset[str]]) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph.get(name, ())
    return found


def test_a_folder_says_what_its_modules_have() -> None:
    """The docstring of a package below the top names each of its modules, and names of theirs."""
    for path in sources():
        if path.name != "__init__.py" or path.parent.parent == ROOT:
            continue
        doc = ast.get_docstring(tree(path)) or ""
        rows = dict(re.findall(r"^\* `(\w+)`(?:: (.+))?$", doc, re.MULTILINE))
        modules = {file.stem for file in path.parent.glob("*.py")} - {"__init__", "__main__"}
        assert set(rows) == modules, path
        for module, names in rows.items():
            public = re.findall(r"\w+", names)
            source = text(path.parent / f"{module}.py")
            assert [name for name in public if f'"{name}"' not in source] == [], (path, module)

"""The core of the load test goes without its optional parts, until one is asked for."""

from __future__ import annotations

import ast
import importlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from loadtest.optional import OPTIONAL, load_optional
from tests.loadtest.stub_server import ROOT, Behaviour, run_script, served, write_corpus

PACKAGE = ROOT / "loadtest"
EXTRAS = PACKAGE / "extras"
FACES = {PACKAGE / "worker.py", PACKAGE / "compare.py"}  # kept for those who type them
CORE = sorted(
    path for path in PACKAGE.rglob("*.py") if path not in FACES and EXTRAS not in path.parents
)
RUN = """
    import json, sys
    from loadtest.__main__ import main
    code = main(sys.argv[1:] or {arguments!r})
    loaded = [name for name in sys.modules if name.startswith("loadtest.extras")]
    print(json.dumps([code, sorted(loaded)]))
"""


def imported(path: Path) -> set[str]:
    """Names of all imports, those in functions and for types alone too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


def test_the_core_imports_nothing_optional() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in CORE
        for name in imported(path)
        if re.match(r"loadtest\.(extras|worker|compare)\b", name)
    ]
    assert len(CORE) > 40
    assert not wrong


def test_such_an_import_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "core.py"
    file.write_text("def f():\n    from loadtest import extras\n    import loadtest.extras.junit\n")
    assert imported(file) == {"loadtest", "loadtest.extras", "loadtest.extras.junit"}


def test_only_the_table_names_optional_modules() -> None:
    named = {path for path in CORE if "loadtest.extras." in path.read_text(encoding="utf-8")}
    assert named == {PACKAGE / "optional.py"}


@pytest.mark.parametrize("name", OPTIONAL)
def test_each_entry_is_there(name: str) -> None:
    module, _, attribute = OPTIONAL[name].partition(":")
    spec = find_spec(module)  # not imported: the master of workers would bring Locust
    assert spec is not None
    tree = ast.parse(Path(spec.origin or "").read_text(encoding="utf-8"))
    assert attribute in {getattr(node, "name", "") for node in tree.body}
    if name == "junit":
        assert load_optional(name) is importlib.import_module(module).JunitFile


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ([], set()),
        (["--junit", "junit.xml"], {"loadtest.extras", "loadtest.extras.junit"}),
    ],
)
def test_a_load_brings_nothing_that_was_not_asked_for(
    tmp_path: Path, flags: list[str], wanted: set[str]
) -> None:
    flags = [str(tmp_path / flag) if flag.endswith(".xml") else flag for flag in flags]
    load = ["--rate", "20", "--duration-s", "1", "--warmup-s", "0", "--out", str(tmp_path / "out")]
    with served(Behaviour()) as url:
        arguments = [url, "--corpus", str(write_corpus(tmp_path)), *load, *flags]
        done = run_script(RUN.format(arguments=arguments))
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert code in (0, 3), done.stderr  # 3: the machine may be busy
    assert set(loaded) == wanted

"""What of serve is core and what is optional: read from the sources, and seen in a worker."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

import serve
from serve.plugins import PLUGINS, load_plugin
from serve.runners.open import RUNNERS

ROOT = Path(serve.__file__).parent
OPTIONAL = (
    "serve.engines",
    "serve.http.oip_v2",
    "serve.process.hot_reload",
    "serve.telemetry.drift",
    "serve.telemetry.tracing",
)
REGISTRIES = ("serve.plugins", "serve.runners.open")  # these name optional modules, in strings
MOST_LOADED = 38  # modules of ours in a worker with nothing optional, handlers included

# The worker as BentoML's process makes it; what stands for BentoML's app is never called.
WORKER = """
import sys
from pathlib import Path
from serve.process.worker import ServiceWorker
from serve.settings import Settings

worker = ServiceWorker(Settings(Path(sys.argv[1]), backend="onnxruntime-cpu", {settings}))
worker.around(None)
worker.open()
assert worker.is_ready
print(*sorted(name for name in sys.modules if name.partition(".")[0] == "serve"))
worker.close()
"""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def is_optional(name: str) -> bool:
    return any(name == one or name.startswith((f"{one}.", f"{one}:")) for one in OPTIONAL)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
CORE = [name for name in MODULES if not is_optional(name)]


def imports_of(tree: ast.Module) -> set[str]:
    """Every module that is imported, inside functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def texts_of(tree: ast.Module) -> set[str]:
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("name", CORE)
def test_core_imports_nothing_optional(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert not [other for other in imports_of(tree) if is_optional(other)]
    if name not in REGISTRIES:
        assert not [text for text in texts_of(tree) if is_optional(text)]


def test_every_optional_part_exists() -> None:
    assert all(any(name.startswith(one) for name in MODULES) for one in OPTIONAL)
    for name in PLUGINS:
        assert load_plugin(name) is not None
    for row in RUNNERS:
        assert callable(resolve_name(row.opener))


def modules_of_a_worker(artifact: Path, **settings: object) -> list[str]:
    code = WORKER.format(settings=", ".join(f"{name}={v!r}" for name, v in settings.items()))
    command = [sys.executable, "-c", code, str(artifact)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def parts_in(modules: list[str]) -> list[str]:
    """Which optional parts are among these."""
    return [
        part for part in OPTIONAL if any(n == part or n.startswith(f"{part}.") for n in modules)
    ]


def test_a_worker_loads_what_is_asked_for_and_no_more(tiny_artifact: Path, tmp_path: Path) -> None:
    bare = modules_of_a_worker(tiny_artifact, drift=0, oip=0)
    assert parts_in(bare) == []
    packages = {name.rpartition(".")[0] for name in MODULES}
    assert len(set(bare) - packages) <= MOST_LOADED
    by_default = parts_in(modules_of_a_worker(tiny_artifact))
    assert by_default == ["serve.http.oip_v2", "serve.telemetry.drift"]
    reloads = parts_in(modules_of_a_worker(tiny_artifact, drift=0, oip=0, control=str(tmp_path)))
    assert reloads == ["serve.process.hot_reload"]

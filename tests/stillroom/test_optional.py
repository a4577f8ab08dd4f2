"""What is optional is not loaded by `stillroom run`, and never imported by what is core."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONAL = (
    "stillroom.extras",
    "stillroom.sweep",
    "stillroom.ablation",
    "stillroom.parity.two_files",
    "stillroom.parity.common_input",
    "stillroom.commands.studies",
    "stillroom.commands.training.search_students",
    "stillroom.commands.training.sanity",
    "stillroom.commands.training.profile",
    "stillroom.commands.training.choices",
    "stillroom.commands.artifact.import_checkpoint",
    "stillroom.commands.artifact.mobile",
    "stillroom.commands.artifact.tensorrt",
    "stillroom.commands.service.admin",
)
ELSEWHERE = (
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
)


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("package", [*OPTIONAL, *ELSEWHERE])
def test_a_run_loads_nothing_that_its_recipe_does_not_ask_for(tiny_run, package):
    if package == "serve.engines" and any(map(find_spec, ("tensorrt", "tensorrt_rtx"))):
        pytest.skip("TensorRT is installed here, so that backend = auto tries it first")
    loaded = (tiny_run.parent / "modules.txt").read_text().splitlines()
    assert "stillroom.report.page" in loaded  # the whole pipeline ran in that process
    assert [name for name in loaded if is_below(name, package)] == []


def imported_by(path: Path) -> set[str]:
    """Modules that a file imports, those within functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_core_names_what_is_optional_by_text_alone():
    wrong = []
    for path in sorted((ROOT / "stillroom").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not any(is_below(name, package) for package in OPTIONAL):
            wrong += [
                f"{name} imports {other}"
                for other in sorted(imported_by(path))
                if any(is_below(other, package) for package in OPTIONAL)
            ]
    assert wrong == []

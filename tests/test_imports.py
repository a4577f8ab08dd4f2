"""Who may import whom: read from the sources, so that an import inside a function counts too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "loadtest": set(),
    "serve": set(),
    "train": {"serve.contract"},
    "compress": {"train", "serve.contract"},
    "export": {"train", "serve"},
    "stillroom": {"train", "compress", "export", "serve", "loadtest"},
}
FORBIDDEN_IN_SERVE = {"torch", "torchvision", "timm", "onnx", "safetensors", "scipy", "sklearn"}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def modules_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def is_below(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_the_design_allows(package):
    ours = set(ALLOWED) - {package}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of(package)
        for name in imports_of(path)
        if is_below(name, ours) and not is_below(name, ALLOWED[package])
    ]
    assert modules_of(package)
    assert not wrong


def test_serve_never_imports_a_training_library():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of("serve")
        for name in imports_of(path)
        if is_below(name, FORBIDDEN_IN_SERVE)
    ]
    assert not wrong


@pytest.mark.ci
def test_locust_stays_in_its_own_process():
    """Its patching of the standard library breaks threads, and with them torch and BentoML."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in modules_of("stillroom")
        if path.name != "__main__.py"
    ]
    code = f"import {', '.join(names)}, sys; assert not {{'locust', 'gevent'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code.replace(".__init__", "")], check=True, cwd=ROOT)


def test_the_contract_needs_numpy_and_pillow_only():
    standard = {"__future__", *sys.stdlib_module_names}
    foreign = {
        name.split(".")[0]
        for path in modules_of("serve/contract")
        for name in imports_of(path)
        if not name.startswith("serve.contract") and name.split(".")[0] not in standard
    }
    assert foreign == {"numpy", "PIL"}


def test_there_is_no_drawer():
    drawers = {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert not [p for package in ALLOWED for p in modules_of(package) if p.name in drawers]

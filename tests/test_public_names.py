"""What `import train` and the like give: every public name, and nothing heavy before it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("train", "compress", "export", "serve", "stillroom", "loadtest")
# Importing every submodule first shows a name that a submodule hides.
CODE = """
import importlib, inspect, pathlib, sys
packages = sys.argv[1:]
for package in packages:
    for path in sorted(pathlib.Path(package).rglob("*.py")):
        name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__") and name not in LEFT_OUT:
            importlib.import_module(name)
for package in packages:
    found = importlib.import_module(package)
    for name in found.__all__:
        value = getattr(found, name)
        assert not inspect.ismodule(value), f"{package}.{name} is a module"
        assert not callable(value) or inspect.getdoc(value), f"{package}.{name} has no docstring"
        assert name in dir(found)
"""
# What need not be installed, or sends with Locust.
LEFT_OUT = {
    "train.extras.mlflow_run",
    "loadtest.locustfile",
}


@pytest.mark.ci
@pytest.mark.parametrize("packages", [PACKAGES[:-1], ("loadtest",)])  # Locust patches its process
def test_every_public_name_is_there_whatever_was_imported_before(packages):
    code = CODE.replace("LEFT_OUT", repr(LEFT_OUT))
    done = subprocess.run(
        [sys.executable, "-c", code, *packages], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_does_and_what_it_has_not(package):
    found = import_module(package)
    assert inspect.getdoc(found)
    assert len(set(found.__all__)) == len(found.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        found.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("line", "heavy"),
    [
        ("import stillroom", ("torch", "bentoml", "_bentoml_sdk", "numpy", "locust")),
        ("import serve.contract", ("bentoml", "_bentoml_sdk", "starlette", "torch")),
        ("import train, compress, export, serve, loadtest", ("torch", "bentoml", "locust")),
        ("import train.evaluation", ("scipy.stats", "sklearn", "pandas")),
        ("import stillroom.evaluation.source", ("scipy.stats", "sklearn", "matplotlib", "timm")),
        ("from stillroom import load, open_run", ("torch", "bentoml", "timm", "sklearn")),
    ],
)
def test_importing_is_light(line, heavy):
    code = f"import sys; {line}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

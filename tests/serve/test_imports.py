from __future__ import annotations

import pkgutil
import subprocess
import sys

import serve

# In a process of its own: this one may have imported torch, and BentoML warns while it is imported.
CODE = """
import importlib, sys
modules = [importlib.import_module(name) for name in {names!r}]
banned = ["torch", "onnx", "timm", "stillroom", "train", "compress", "export", "loadtest"]
print([name for name in banned if name in sys.modules])
print([(m.__name__, n) for m in modules for n in getattr(m, "__all__", []) if not hasattr(m, n)])
"""


def test_serve_imports_no_torch_and_exports_what_it_names() -> None:
    names = [module.name for module in pkgutil.walk_packages(serve.__path__, "serve.")]
    assert "serve.service" in names
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(names=names)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_the_process_above_the_workers_imports_nothing_that_computes() -> None:
    code = (
        "import sys, serve.service, serve.process.supervisor\n"
        "print([name for name in ('numpy', 'PIL', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

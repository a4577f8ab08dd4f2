"""One tree of exceptions, each with its exit code."""

from __future__ import annotations

import ast

import pytest

from loadtest.errors import LoadFailedError, LoadTestError, UsageError
from tests.loadtest.stub_server import ROOT


def test_no_exception_stands_outside_the_tree() -> None:
    bases = {
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in (ROOT / "loadtest").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and {"Exception", "BaseException"} & {getattr(base, "id", "") for base in node.bases}
    }
    assert bases == {"loadtest/errors.py:LoadTestError"}


@pytest.mark.parametrize(
    ("error", "code"), [(LoadTestError("x"), 1), (UsageError("x"), 2), (LoadFailedError(75), 75)]
)
def test_each_has_an_exit_code(error: LoadTestError, code: int) -> None:
    assert error.exit_code == code

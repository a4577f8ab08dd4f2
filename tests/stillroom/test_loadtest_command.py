"""What `stillroom loadtest` asks `python -m loadtest` to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtest.arguments import build_parser
from stillroom import loadtest_command
from stillroom.loadtest_cli import loadtest_app

URL = "http://127.0.0.1:9"
FORM = ("--route", "/predict", "--field", "file", "--answer", "", "--header", "X-Key: a b")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    found: list[list[str]] = []

    def run(command: list[str], **_: Any) -> int:
        found.append(command)
        return 0

    monkeypatch.setattr(loadtest_command, "run_child", run)
    return found


def test_another_classifier_is_asked_its_own_way(asked: list[list[str]], tmp_path: Path) -> None:
    flags = ["--photos", str(tmp_path), "--rate", "5", "--slo", "p90=1s"]
    done = CliRunner().invoke(loadtest_app, [URL, *flags, "--", *FORM, "--workers", "2"])
    assert done.exit_code == 0, done.output
    (command,) = asked
    assert command[1:3] == ["-m", "loadtest"]
    options = build_parser().parse_args(command[3:])
    assert (options.url, options.rate, options.slo) == (URL, 5, "p90=1s")
    assert (options.route, options.field, options.answer) == ("/predict", "file", "")
    assert (options.header, options.workers) == (["X-Key: a b"], 2)


def test_so_is_it_in_a_search(asked: list[list[str]], tmp_path: Path) -> None:
    done = CliRunner().invoke(loadtest_app, [URL, "--photos", str(tmp_path), "--", *FORM])
    assert done.exit_code == 0, done.output
    (command,) = asked
    assert command[1:3] == ["-m", "loadtest.promise"]
    assert set(FORM) < set(command)


def test_paths_are_those_of_the_folder_that_the_user_is_in(tmp_path: Path, jpeg: bytes) -> None:
    """Also where it has a folder of the module's name: results of an earlier load, perhaps."""
    (tmp_path / "loadtest").mkdir()
    (tmp_path / "loadtest" / "__init__.py").write_text("raise SystemExit('not ours')")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(jpeg)
    words = ("loadtest", URL, "--photos", "photos", "--rate", "5", "--out", "out")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "stillroom", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "127.0.0.1:9" in done.stderr
    assert "not ours" not in done.stderr

"""Another checkout: its interpreter, and that nothing of ours is measured in its place."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.against import checkout
from benchmarks.against.checkout import open_checkout, this_checkout, versions_that_differ
from benchmarks.against.serving import SERVICES, contestant_of
from serve.contract.errors import MeasurementError, UsageError

PYTHON = Path(sys.executable)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """An old layout: a package `serve`, and nothing where ours has it."""
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "__init__.py").write_text("")
    return tmp_path


def test_this_one_is_described() -> None:
    ours = this_checkout()
    assert (ours.folder / "benchmarks").is_dir()
    assert "numpy" in ours.versions


def test_another_runs_its_own_modules(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(this_checkout().folder))
    theirs = open_checkout(other, PYTHON)
    assert theirs.run("-c", "import serve; print(serve.__file__)").startswith(str(other))
    service = contestant_of(next(iter(SERVICES.values())), theirs)
    assert (service.python, service.folder) == (str(PYTHON), other)


def test_an_interpreter_that_imports_ours_is_refused(
    other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = str(this_checkout().folder)
    code = f"import sys; sys.path.insert(0, {ours!r}); {checkout.DESCRIBE}"
    monkeypatch.setattr(checkout, "DESCRIBE", code)
    with pytest.raises(UsageError, match="imports serve from"):
        open_checkout(other, PYTHON)


def test_a_folder_that_is_not_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a checkout of stillroom.*git worktree add"):
        open_checkout(tmp_path)


def test_a_command_that_fails_shows_its_last_lines(other: Path) -> None:
    with pytest.raises(MeasurementError, match="why it ended"):
        open_checkout(other, PYTHON).run("-c", "raise SystemExit('why it ended')")


def test_a_missing_environment_is_made_by_uv(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_sync(folder: Path) -> None:
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "python").symlink_to(PYTHON)

    monkeypatch.setattr(checkout, "_sync", fake_sync)
    assert open_checkout(other).python == other / ".venv" / "bin" / "python"


def test_versions_that_differ_are_named() -> None:
    ours = replace(this_checkout(), versions={"torch": "2", "numpy": "1", "ruff": "1"})
    theirs = replace(ours, versions={"torch": "3", "numpy": "1"})
    assert versions_that_differ(ours, theirs) == "torch 2 and 3; in one environment only: 1"

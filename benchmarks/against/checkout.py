"""A folder with some commit of this project, and the interpreter that runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from serve.contract.errors import MeasurementError, UsageError

__all__ = ["Checkout", "open_checkout", "this_checkout", "versions_that_differ"]

ROOT = Path(__file__).parents[2]
DESCRIBE = (
    "import json, serve; from importlib import metadata; "
    "print(json.dumps([serve.__file__, {d.name: d.version for d in metadata.distributions()}]))"
)
LAST_LINES = 8


@dataclass(frozen=True)
class Checkout:
    """One side of a comparison.

    Args:
        folder: the root of the checkout.
        python: of the environment that it runs in.
        commit: short hash, with a plus where files have changed since.
        versions: of the packages in the environment.
    """

    folder: Path
    python: Path
    commit: str
    versions: dict[str, str]

    def run(self, *words: str, log: Path | None = None) -> str:
        """Run its interpreter in its folder, and return what it printed.

        Args:
            words: what follows `python`.
            log: file for the output, instead of returning it.

        Raises:
            MeasurementError: it failed; with its last lines.
        """
        done = subprocess.run(
            [self.python, *words], cwd=self.folder, env=environment(), capture_output=True,
            text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if log is not None:
            log.write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode:
            last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-LAST_LINES:])
            raise MeasurementError(f"{self.commit}: {' '.join(words)[:200]} failed:\n{last}")
        return done.stdout


def this_checkout() -> Checkout:
    """The one that this module is in, with the interpreter that runs it."""
    return _described(ROOT, Path(sys.executable))


def open_checkout(folder: Path, python: Path | None = None) -> Checkout:
    """Find the interpreter of another checkout, and make its environment where it has none.

    Args:
        folder: such as `git worktree add --detach FOLDER COMMIT` makes.
        python: an interpreter with what it needs; its own `.venv` when None, made by `uv sync`.

    Raises:
        UsageError: the folder is not a checkout, or its interpreter imports another one.
        MeasurementError: the environment could not be made, or lacks something.
    """
    folder = folder.resolve()
    if not (folder / "serve").is_dir():
        raise UsageError(f"{folder} is not a checkout of stillroom.", "Make one: git worktree add")
    own = folder / ".venv" / "bin" / "python"
    if python is None and not own.exists():
        _sync(folder)
    return _described(folder, own if python is None else python.absolute())


def versions_that_differ(ours: Checkout, theirs: Checkout) -> str:
    """Packages of which the environments hold different versions, and how many only one holds."""
    one, other = ours.versions, theirs.versions
    differ = [f"{n} {one[n]} and {other[n]}" for n in sorted(one) if one[n] != other.get(n, one[n])]
    return f"{', '.join(differ) or 'none'}; in one environment only: {len(one.keys() ^ other)}"


def environment() -> dict[str, str]:
    """Of both sides' processes: nothing in it leads to the modules of this checkout."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def _sync(folder: Path) -> None:
    done = subprocess.run(
        ["uv", "sync", "-q"], cwd=folder, env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise MeasurementError(f"uv sync failed in {folder}:\n{done.stderr.strip()}")


def _described(folder: Path, python: Path) -> Checkout:
    commit = _git(folder, "rev-parse", "--short", "HEAD")
    changed = "+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else ""
    found = Checkout(folder, python, (commit or folder.name) + changed, {})
    source, versions = json.loads(found.run("-c", DESCRIBE))
    if not Path(source).resolve().is_relative_to(folder):
        raise UsageError(f"{python} imports serve from {source}.", f"Expected: below {folder}")
    return Checkout(folder, python, found.commit, versions)


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()

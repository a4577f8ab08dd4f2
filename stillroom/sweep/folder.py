"""Where a sweep keeps its results: RUN/sweep/<name>/, one folder a trial, resumed by its plan."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve.contract.digest import canonical_json
from serve.contract.errors import RunError, UsageError
from serve.contract.files import write_atomic
from train.models.checkpoint import CARD, WEIGHTS

__all__ = ["SCHEMA_VERSION", "SweepFolder"]

SCHEMA_VERSION = "1.0"
PLAN, RESULTS, TABLE, PAGE = "plan.json", "results.json", "results.csv", "index.html"


class SweepFolder:
    """One sweep on disk.

    Args:
        path: made when the sweep starts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, run: Path, name: str) -> SweepFolder:
        """The folder of a sweep by name.

        Raises:
            UsageError: the name is not a plain folder name.
        """
        if not name or name.startswith(".") or Path(name).name != name:
            raise UsageError(f"--name {name!r}: expected a plain folder name.")
        return cls(run / "sweep" / name)

    @property
    def page(self) -> Path:
        """What people read."""
        return self.path / PAGE

    def trial(self, number: int) -> Path:
        """Folder of one trial."""
        return self.path / "trials" / str(number)

    @contextmanager
    def opened(self, plan: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for this process, for this plan.

        Raises:
            RunError: another process works on it.
            UsageError: it holds a sweep of another plan.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"Another stillroom is working on {self.path}.",
                    "Wait for it, or choose another --name.",
                ) from None
            self._check_plan(json.loads(canonical_json(dict(plan))))
            yield

    def write(self, results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace results.json and results.csv.

        Args:
            results: of the sweep, without the rows.
            rows: one a trial or cell, all with the same keys.
        """
        value = {"schema_version": SCHEMA_VERSION, **results, "rows": [dict(row) for row in rows]}
        write_atomic(self.path / RESULTS, canonical_json(value))
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path / TABLE, text.getvalue().encode())

    def write_page(self, text: str) -> None:
        """Replace index.html."""
        write_atomic(self.page, text.encode())

    def write_text(self, name: str, text: str) -> Path:
        """Replace another file of the sweep."""
        write_atomic(self.path / name, text.encode())
        return self.path / name

    def keep_checkpoints(self, numbers: set[int]) -> None:
        """Remove the checkpoints of all other trials."""
        for folder in (self.path / "trials").iterdir():
            if folder.name not in {str(number) for number in numbers}:
                for name in (CARD, WEIGHTS):
                    (folder / name).unlink(missing_ok=True)

    def _check_plan(self, plan: dict[str, Any]) -> None:
        path = self.path / PLAN
        if not path.exists():
            shutil.rmtree(self.path / "trials", ignore_errors=True)
            write_atomic(path, canonical_json(plan))
            return
        try:
            old = json.loads(path.read_bytes())
        except ValueError:
            old = {}
        if changed := sorted(_differing(old, plan, "")):
            raise UsageError(
                f"{self.path} holds another sweep: {', '.join(changed[:4])} "
                f"{'differs' if len(changed) == 1 else 'differ'}.",
                "Choose another --name, repeat the command it was begun with, or remove the "
                "folder.",
            )


def _differing(old: Any, new: Any, prefix: str) -> Iterator[str]:
    """Dotted names of what is not equal."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield prefix.rstrip(".")
        return
    for key in sorted(old.keys() | new.keys()):
        yield from _differing(old.get(key), new.get(key), f"{prefix}{key}.")

"""What an audit learnt of each file, kept between audits: only new and changed files are decoded.

A file counts as unchanged while its size, times and inode are. The cache may be deleted at any
time; one that is damaged is begun anew, and one that cannot be written is done without.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from train.data.cache_folder import FileKey, cache_folder
from train.engine.progress import say

__all__ = ["AuditCache", "FileFacts", "open_cache"]

CHANGING_S = 0.1  # a file that changed so recently may change again within its times' resolution
QUERIED = 500  # rows a query
COLUMNS = "sha256, width, height, thumbnail, problem, remarks"
SCHEMA = """CREATE TABLE IF NOT EXISTS file_facts (
    path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, thumbnail BLOB NOT NULL, problem TEXT NOT NULL, remarks TEXT NOT NULL
) WITHOUT ROWID"""


@dataclass(frozen=True)
class FileFacts:
    """What one file is.

    Args:
        sha256: of its bytes; empty where it could not be read.
        width: upright width in pixels; 0 where it does not decode.
        height: upright height in pixels; 0 where it does not decode.
        thumbnail: bytes of `train.data.audit.near_duplicates.thumbnail_of`; empty where it does
            not decode.
        problem: why it does not decode; empty where it does.
        remarks: kinds of `train.data.audit.findings` that a person should look at, with blanks
            between them.
    """

    sha256: str = ""
    width: int = 0
    height: int = 0
    thumbnail: bytes = b""
    problem: str = ""
    remarks: str = ""


class AuditCache:
    """Facts by file. Made by `open_cache`; without a database it remembers nothing.

    Args:
        database: open, with the table of facts; None to do without.
    """

    def __init__(self, database: sqlite3.Connection | None) -> None:
        self._database = database

    def read(self, keys: Sequence[FileKey]) -> dict[str, FileFacts]:
        """Facts by path of those files that are known and have not changed."""
        found: dict[str, FileFacts] = {}
        for start in range(0, len(keys), QUERIED):
            stamps = {key.path: key.stamp for key in keys[start : start + QUERIED]}
            marks = ", ".join("?" * len(stamps))
            query = f"SELECT path, stamp, {COLUMNS} FROM file_facts WHERE path IN ({marks})"
            for path, stamp, *facts in self._execute(query, tuple(stamps)):
                if stamps[path] == stamp:
                    found[path] = FileFacts(*facts)
        return found

    def write(self, facts: Iterable[tuple[FileKey, FileFacts]]) -> None:
        """Remember the facts of files, but of those that changed just now."""
        settled_s = time.time() - CHANGING_S
        rows = [
            (key.path, key.stamp, *astuple(one)) for key, one in facts if key.changed_s < settled_s
        ]
        if self._database is not None and rows:
            try:
                with self._database:
                    self._database.executemany(
                        "INSERT OR REPLACE INTO file_facts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
                    )
            except sqlite3.Error as error:
                self._give_up(error)

    def _execute(self, query: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        if self._database is None:
            return []
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return []

    def _give_up(self, error: sqlite3.Error) -> None:
        say(f"  audit: going on without the cache ({error})")
        self._database = None


@contextmanager
def open_cache(folder: Path | None = None) -> Iterator[AuditCache]:
    """Open the cache in a folder (default: `cache_folder()`), or do without and say so."""
    database = None
    try:
        folder = folder or cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        database = _open(folder / "audit.sqlite")
    except (OSError, sqlite3.Error, RuntimeError) as error:  # RuntimeError: no home folder
        say(f"  audit: no cache in {folder or 'the home folder'} ({error}); every file is decoded")
    try:
        yield AuditCache(database)
    finally:
        if database is not None:
            database.close()


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.OperationalError:
        raise  # locked or unwritable, but sound
    except sqlite3.DatabaseError:
        with suppress(FileNotFoundError):
            path.unlink()
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=5.0)
    try:
        database.execute(SCHEMA)
        database.execute(f"SELECT path, stamp, {COLUMNS} FROM file_facts LIMIT 1")
    except sqlite3.Error:
        database.close()
        raise
    return database

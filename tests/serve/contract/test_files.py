"""Files that are the old or the new one, whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve.contract.files import write_atomic


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old", shared=shared)
    write_atomic(path, b"new", shared=shared)
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_fails_midway_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(*((os, "fsync", full) if call == "fsync" else (Path, "replace", full)))
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]

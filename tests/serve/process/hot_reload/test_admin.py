from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.contract.errors import ServiceError, UsageError
from serve.process.hot_reload import admin
from serve.process.hot_reload.admin import (
    AdminSocket,
    ask_workers,
    control_folder,
    make_control_folder,
)
from serve.process.hot_reload.reload import ModelSlot
from serve.settings import Settings


def served(artifact: Path, folder: Path, ask: Callable[[], Any]) -> Any:
    """Call `ask` in a thread while a worker's admin socket is open."""

    async def main() -> Any:
        slot = ModelSlot(Settings(artifact), lambda model: None)
        slot.open()
        wire = AdminSocket(folder, slot)
        await wire.open()
        try:
            return await asyncio.to_thread(ask)
        finally:
            wire.close()
            slot.close()

    return asyncio.run(main())


def test_status_reload_and_rollback(tiny_artifact: Path, tmp_path: Path, build_artifact) -> None:
    other = build_artifact(tmp_path / "other", seed=5)

    def ask() -> list[dict[str, Any]]:
        commands = [("status", None), ("rollback", None), ("reload", other), ("rollback", None)]
        return [ask_workers(tmp_path, what, path)[0] for what, path in commands]

    status, refused, reloaded, back = served(tiny_artifact, tmp_path, ask)
    assert status["ok"]
    assert status["previous"] is None
    assert status["worker"] == os.getpid()
    assert not refused["ok"]
    assert "no previous model" in refused["message"]
    assert reloaded["previous"] == status["current"] != reloaded["current"]
    assert back["current"] == status["current"]


@pytest.mark.parametrize(
    "line",
    [b"\n", b"[]\n", b"{}\n", b"nonsense\n", b"\xff\n", b'{"do": "shutdown"}\n', b'{"do": 1}\n',
     b'{"do": "reload", "artifact": 7}\n'],
)  # fmt: skip
def test_what_is_no_command_is_refused(tiny_artifact: Path, tmp_path: Path, line: bytes) -> None:
    def ask() -> dict[str, Any]:
        [path] = tmp_path.glob("worker-*.sock")
        return admin._ask(path, line)

    answer = served(tiny_artifact, tmp_path, ask)
    assert not answer["ok"]
    assert answer["next_step"]


def test_only_the_user_may_connect(tiny_artifact: Path, tmp_path: Path) -> None:
    def modes() -> int:
        [path] = tmp_path.glob("worker-*.sock")
        return stat.S_IMODE(path.stat().st_mode)

    assert served(tiny_artifact, tmp_path, modes) == 0o600
    assert not list(tmp_path.iterdir())  # and nothing is left behind


def test_the_folder_is_private_and_short_lived(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with make_control_folder("127.0.0.1", 3000) as folder:
        assert folder == control_folder("127.0.0.1", 3000)
        for path in (folder, folder.parent):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (folder / "worker-1.sock").touch()
    assert not folder.exists()


@pytest.mark.parametrize("trap", ["open to others", "a link"])
def test_a_folder_of_someone_else_is_refused(monkeypatch, tmp_path: Path, trap: str) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = control_folder("127.0.0.1", 3000).parent
    if trap == "a link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with (
        pytest.raises(UsageError, match=r"not a private folder.*Set TMPDIR, or STILLROOM_CONTROL"),
        make_control_folder("127.0.0.1", 3000),
    ):
        pytest.fail("it must not be used")


def test_a_worker_does_not_listen_where_others_may_write(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(UsageError, match="is not a private folder"):
        served(tiny_artifact, tmp_path, lambda: pytest.fail("it must not listen"))


def test_a_folder_that_cannot_be_made_is_said(tiny_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot be made \(Not a directory\)"):
        served(tiny_artifact, tmp_path / "file" / "x", lambda: None)


def test_sockets_of_dead_workers_are_passed_over(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead, admin._short(tmp_path / "worker-1.sock") as path:
        dead.bind(path)
    with pytest.raises(ServiceError, match=r"No service of this user.*stillroom serve"):
        ask_workers(tmp_path, "status")


def test_a_long_path_works(tiny_artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(mode=0o700, parents=True)
    assert served(tiny_artifact, folder, lambda: ask_workers(folder, "status"))[0]["ok"]


def test_a_line_without_end_is_no_harm(tiny_artifact: Path, tmp_path: Path) -> None:
    def ask() -> bytes:
        [path] = tmp_path.glob("worker-*.sock")
        with socket.socket(socket.AF_UNIX) as wire, admin._short(path) as short:
            wire.connect(short)
            wire.settimeout(10)
            try:
                wire.sendall(b"x" * 200_000)
                return wire.recv(100)
            except OSError:
                return b""

    assert served(tiny_artifact, tmp_path, ask) == b""


def test_the_line_is_what_the_docs_say(tiny_artifact: Path, tmp_path: Path) -> None:
    def ask() -> dict[str, Any]:
        [path] = tmp_path.glob("worker-*.sock")
        return admin._ask(path, json.dumps({"do": "status"}).encode() + b"\n")

    assert set(served(tiny_artifact, tmp_path, ask)) == {"ok", "worker", "current", "previous"}

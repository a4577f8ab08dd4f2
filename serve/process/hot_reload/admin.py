"""Admin: reload, rollback and status through a Unix socket of each worker, for the same user only.

    <control>/                   0700, of the user who started the service
      worker-4711.sock           0600; one JSON line in, one JSON line out

    {"do": "reload", "artifact": "/srv/new"}  ->  {"ok": true, "current": {...}, ...}
    {"do": "rollback"}  ->  {"ok": false, "message": "This service has ...", "next_step": "..."}

No port listens for it: what may change the model is a file's rights, not a header.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.contract.errors import ServiceError, StillroomError, UsageError
from serve.process.environment import is_private, user_folder

if TYPE_CHECKING:  # commands ask the socket without what serves behind it
    from serve.process.hot_reload.reload import ModelSlot

__all__ = ["AdminSocket", "ask_workers", "control_folder", "make_control_folder"]

TIMEOUT_S = 300.0  # an engine may have to be built
MAX_LINE = 64 * 2**10


class AdminSocket:
    """The socket of one worker process.

    Args:
        folder: of the service; see `make_control_folder`.
        slot: what commands change.
    """

    def __init__(self, folder: Path, slot: ModelSlot) -> None:
        self._path = folder / f"worker-{os.getpid()}.sock"
        self._slot = slot
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen.

        Raises:
            UsageError: the folder is not private.
        """
        _make_private(self._path.parent)
        listener = socket.socket(socket.AF_UNIX)
        self._path.unlink(missing_ok=True)  # of a dead worker that had this process number
        with _short(self._path) as path:
            listener.bind(path)
        self._path.chmod(0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE)

    def close(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            response = await self._respond(await reader.readline())
            writer.write(json.dumps(response).encode() + b"\n")
            await writer.drain()
        except (ValueError, OSError):  # a line without end, or a caller that left
            pass
        finally:
            writer.close()

    async def _respond(self, line: bytes) -> dict[str, Any]:
        try:
            command = json.loads(line)
            result = await self._do(str(command["do"]), command.get("artifact"))
            return {"ok": True, "worker": os.getpid(), **result}
        except StillroomError as error:
            told = {"message": error.message, "next_step": error.next_step}
        except (ValueError, KeyError, TypeError, AttributeError):
            told = {"message": "This is not a command.", "next_step": "Use stillroom admin."}
        return {"ok": False, "worker": os.getpid(), **told}

    async def _do(self, what: str, artifact: str | None) -> dict[str, Any]:
        if what == "reload":
            return await self._slot.reload(Path(artifact) if artifact else None)
        if what == "rollback":
            return await self._slot.rollback()
        if what == "status":
            return self._slot.status()
        raise UsageError(f"{what!r} is not a command.", "Known: reload, rollback, status.")


def control_folder(host: str, port: int) -> Path:
    """Where a service on this address has its admin sockets, below the temporary folder."""
    return user_folder() / f"{host}_{port}"


@contextmanager
def make_control_folder(host: str, port: int) -> Iterator[Path]:
    """An empty `control_folder` while the block runs; the port must be ours.

    Raises:
        UsageError: another user has a folder, or a link, of that name.
    """
    folder = control_folder(host, port)
    _make_private(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)  # of a service that was killed
    _make_private(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # the last one of this user leaves nothing behind
            folder.parent.rmdir()


def ask_workers(folder: Path, what: str, artifact: Path | None = None) -> list[dict[str, Any]]:
    """Send a command to every worker, one after the other.

    Args:
        folder: from `control_folder`.
        what: reload, rollback or status.
        artifact: for reload: an artifact folder or the run folder above it.

    Returns:
        The responses, by worker.

    Raises:
        ServiceError: such a service does not run.
    """
    command: dict[str, str] = {"do": what}
    if artifact is not None:
        command["artifact"] = str(artifact.resolve())
    responses = []
    for path in sorted(folder.glob("worker-*.sock")):
        with suppress(ConnectionError, FileNotFoundError):  # of a worker that is gone
            responses.append(_ask(path, json.dumps(command).encode() + b"\n"))
    if not responses:
        raise ServiceError(
            f"No service of this user answers in {folder}.",
            "Start one with stillroom serve, or name its --host and --port.",
        )
    return responses


def _ask(path: Path, line: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as wire, _short(path) as short:
        wire.settimeout(TIMEOUT_S)
        wire.connect(short)
        wire.sendall(line)
        with wire.makefile("rb") as lines:
            text = lines.readline()
    if not text:
        raise ConnectionResetError
    response: dict[str, Any] = json.loads(text)
    return response


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for a socket's path within the 107 bytes that Linux takes."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def _make_private(folder: Path) -> None:
    advice = "Set TMPDIR, or STILLROOM_CONTROL, to a folder that is yours alone (chmod 700)."
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}).", advice) from error
    if not is_private(folder):
        raise UsageError(f"{folder} is not a private folder of this user.", advice)

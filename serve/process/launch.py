"""Launch: start the service as a child process, and leave no process behind.

`stillroom serve` calls `serve_forever`; parity over HTTP and load tests call `running_server`.
"""

from __future__ import annotations

import errno
import http.client
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import IO

from serve.contract.artifact import open_artifact
from serve.contract.errors import ServiceError, UsageError
from serve.contract.signals import ending_signals
from serve.plugins import load_plugin
from serve.process.parent_death import LENT, parent_death_command
from serve.runners.onnxruntime_runner import installed_onnxruntime
from serve.settings import Settings, env_from_settings, settings_from_env

__all__ = ["Running", "running_process", "running_server", "serve_forever"]

logger = logging.getLogger(__name__)
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05
WATCH_S = 2
LOG_LINES = 15


def serve_forever(
    artifact_dir: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    settings: Settings | None = None,
    watch: bool = False,
    say: Callable[[str], object] | None = None,
) -> int:
    """Serve until a signal that ends us, which is passed on to the service.

    `stillroom admin` reaches it through the folder that
    `serve.process.hot_reload.admin.control_folder` names.

    Args:
        artifact_dir: the artifact folder, or the run folder above it.
        host: address to bind; other than loopback only behind a proxy you trust.
        port: TCP port.
        settings: backend and limits, with `artifact_dir` for its artifact; STILLROOM_* when None.
        watch: serve a new artifact as soon as it is published in the old one's place.
        say: told in one line where the service is, once it is ready; every minute that it is not.
            Logged when None.

    Returns:
        The exit code of the service; 0 after a signal; 128 + n when signal n killed it.

    Raises:
        ArtifactError: the artifact is damaged or foreign; nothing was started.
        UsageError: the address cannot be bound, or ONNX Runtime is missing.
    """
    say = say or logger.info
    wanted = _settings_for(artifact_dir, settings)
    artifact = open_artifact(artifact_dir)
    installed_onnxruntime()
    address = _free_address(host, port)
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    if watch and not wanted.watch_s:
        wanted = replace(wanted, watch_s=WATCH_S)
    with (
        load_plugin("control_folder")(host, port) as control,
        _child(replace(wanted, control=str(control)), address, port, log=None) as child,
        _passed_on(child) as received,
    ):
        ready = _wait_ready(child, address, port, READY_TIMEOUT_S)
        while not ready and child.poll() is None:
            say(f"stillroom is not ready yet; it still checks the artifact ({url}/readyz)")
            ready = _wait_ready(child, address, port, READY_TIMEOUT_S)
        if ready:
            name = f"{artifact.name} {artifact.version}"
            say(f"stillroom serves {name} at {url} (Ctrl-C stops it)")
        code = child.wait()
        if received and code in (0, -signal.SIGTERM):
            return 0
        return code if code >= 0 else 128 - code  # as a shell says it


@dataclass(frozen=True)
class Running:
    """A service that runs.

    Attributes:
        url: base URL, for example "http://127.0.0.1:40123"; /readyz has answered 200.
        pid: of the process above all of its processes.
    """

    url: str
    pid: int


@contextmanager
def running_process(
    artifact_dir: Path, *, log_path: Path, settings: Settings | None = None
) -> Iterator[Running]:
    """Serve an artifact on a free loopback port while the block runs.

    Args:
        artifact_dir: the artifact folder, or the run folder above it.
        log_path: where the service's output goes.
        settings: as in `serve_forever`.

    Raises:
        ArtifactError: as `serve_forever`.
        ServiceError: the service ended or did not get ready; holds the last lines of its log.
    """
    # nobody but the caller knows the port: no proxy has to notice
    wanted = replace(_settings_for(artifact_dir, settings), grace_s=0)
    artifact = open_artifact(artifact_dir)
    installed_onnxruntime()
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with log_path.open("wb") as log, _child(wanted, "127.0.0.1", port, log=log) as child:
        if not _wait_ready(child, "127.0.0.1", port, READY_TIMEOUT_S):
            raise _not_ready(child, log_path)
        _check_is_ours(url, artifact.digest)
        yield Running(url, child.pid)


@contextmanager
def running_server(
    artifact_dir: Path, *, log_path: Path, settings: Settings | None = None
) -> Iterator[str]:
    """As `running_process`, for callers to whom the base URL is enough."""
    with running_process(artifact_dir, log_path=log_path, settings=settings) as running:
        yield running.url


@contextmanager
def _child(
    settings: Settings, host: str, port: int, log: IO[bytes] | None
) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory(prefix="stillroom-", ignore_cleanup_errors=True) as home:
        lent = os.pathsep.join((home, settings.control))
        child = subprocess.Popen(
            parent_death_command(
                *("-m", "bentoml", "serve", "serve.service:Classifier", "--quiet"),
                *("--host", host, "--port", str(port)),
            ),
            cwd=Path(__file__).parents[2],  # or a folder named serve in the user's would be taken
            env={**_environment(settings, home), LENT: lent},
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches it once, from us
        )
        try:
            yield child
        finally:
            _stop(child)


def _settings_for(artifact_dir: Path, settings: Settings | None) -> Settings:
    if settings is None:
        return settings_from_env({**os.environ, "STILLROOM_ARTIFACT": str(artifact_dir)})
    return replace(settings, artifact=artifact_dir)


def _environment(settings: Settings, home: str) -> dict[str, str]:
    return {
        **os.environ,
        **env_from_settings(settings),
        "BENTOML_HOME": home,  # two services that shared one would wipe each other's metrics
        "PYTHONUNBUFFERED": "1",
    }


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask, wait, insist. Workers end with their parent: see `serve.process.parent_death`."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def _passed_on(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass a signal that ends us on as SIGTERM; yields the list of those that came."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if child.poll() is None:
            child.terminate()

    previous = {n: signal.signal(n, forward) for n in ending_signals()}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_ready(child: subprocess.Popen[bytes], address: str, port: int, timeout_s: float) -> bool:
    """Whether /readyz answered 200; the standard library asks, and the start waits for no other."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and child.poll() is None:
        connection = http.client.HTTPConnection(address, port, timeout=2.0)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return True
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(POLL_S)
    return False


def _not_ready(child: subprocess.Popen[bytes], log_path: Path) -> ServiceError:
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    code = child.poll()
    what = f"ended with exit code {code}" if code is not None else "did not get ready in time"
    return ServiceError(
        f"The service {what}. The last lines of its log:\n" + "\n".join(lines),
        f"\nThe whole log: {log_path}",
    )


def _check_is_ours(url: str, digest: str) -> None:
    from serve.client import describe_model  # its HTTP client is half of what a start imports

    served = describe_model(url)["digest"]
    if served != digest:
        raise ServiceError(
            f"{url} serves {str(served)[:12]}, not {digest[:12]}: another service took the port.",
            "Run it again.",
        )


def _free_address(host: str, port: int) -> str:
    """The IP address of `host`, which is what BentoML binds, once its port proved free."""
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(info[0], info[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(info[4])
            return str(info[4][0])
    except socket.gaierror:
        raise UsageError(f"host = {host!r}: no such address.", "Use an IP address.") from None
    except PermissionError:
        raise UsageError(f"Port {port} needs privileges.", "Choose one above 1023.") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(
                f"host = {host!r}: no address of this machine.",
                "Use 127.0.0.1, or 0.0.0.0 for all of its addresses.",
            ) from None
        raise UsageError(f"Port {port} is in use.", "Choose another with --port.") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""The services that are compared: how each is started and asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving.load import MULTIPART, RAW
from benchmarks.serving.process_tree import ProcessTree
from serve.contract.errors import MeasurementError

__all__ = ["CONTESTANTS", "OURS", "Contestant", "Running", "check_answer", "missing_of", "running"]

ROOT = Path(__file__).parents[2]
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
LOG_LINES = 8


@dataclass(frozen=True)
class Contestant:
    """A service.

    Args:
        name: for the table.
        command: what follows `python`; "{artifact}" and "{port}" are filled in.
        path: that images are posted to.
        kind: of body: RAW or MULTIPART.
        needs: packages that must be importable.
        python: the interpreter.
        folder: that it runs in: the checkout whose modules it imports.
    """

    name: str
    command: Sequence[str]
    path: str
    kind: str
    needs: tuple[str, ...] = ()
    python: str = sys.executable
    folder: Path = ROOT


@dataclass(frozen=True)
class Running:
    """A service that answers.

    Args:
        url: that images are posted to.
        tree: its processes.
        ready_s: from the start to the first right answer.
    """

    url: str
    tree: ProcessTree
    ready_s: float


LIT = "benchmarks.serving.lit_server"
DOCUMENTED = "benchmarks.serving.documented_bentoml:Documented"
BENTOML = ("-m", "bentoml", "serve")
PLACE = ("--host", "127.0.0.1", "--port", "{port}")
OURS = Contestant(
    "stillroom by bentoml serve",
    (*BENTOML, "serve.service:Classifier", "--quiet", *PLACE),
    "/v1/classify",
    RAW,
)
LAUNCHED = Contestant(
    "stillroom serve",
    ("-m", "stillroom", "serve", "{artifact}", "--port", "{port}"),
    "/v1/classify",
    RAW,
)
CONTESTANTS = (
    OURS,
    LAUNCHED,
    Contestant(
        "FastAPI, inline",
        ("-m", "benchmarks.serving.plain_fastapi", "{port}"),
        "/classify",
        RAW,
        ("fastapi",),
    ),
    Contestant("LitServe", ("-m", LIT, "{port}", "1"), "/predict", MULTIPART, ("litserve",)),
    Contestant(
        "LitServe, batches of 8", ("-m", LIT, "{port}", "8"), "/predict", MULTIPART, ("litserve",)
    ),
    Contestant(
        "BentoML as documented",
        (*BENTOML, DOCUMENTED, *PLACE),
        "/classify",
        MULTIPART,
    ),
)


def missing_of(contestant: Contestant) -> list[str]:
    """Packages that it needs and that are not here."""
    return [name for name in contestant.needs if find_spec(name) is None]


@contextmanager
def running(
    contestant: Contestant, artifact: Path, photo: bytes, expected: list[dict[str, Any]], log: Path
) -> Iterator[Running]:
    """Start a service, wait for its first answer, and end all of its processes afterwards.

    Args:
        contestant: which.
        artifact: that it serves.
        photo: what it is asked.
        expected: what it must answer, from `Answering.answer`.
        log: file for its output.

    Raises:
        MeasurementError: it ended, did not get ready, or answers otherwise.
    """
    port = _free_port()
    words = [word.format(artifact=artifact, port=port) for word in contestant.command]
    start = time.perf_counter()
    with log.open("wb") as output:
        child = subprocess.Popen(
            [contestant.python, *words],
            cwd=contestant.folder,
            env=_environment(artifact),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    tree = ProcessTree(child.pid)
    url = f"http://127.0.0.1:{port}{contestant.path}"
    try:
        answer = _first_answer(child, url, contestant.kind, photo, log)
        ready_s = time.perf_counter() - start
        check_answer(contestant.name, answer, expected)
        yield Running(url, tree, ready_s)
    finally:
        _stop(child, tree)


def check_answer(name: str, answer: Any, expected: list[dict[str, Any]]) -> None:
    """Refuse a service that computes something else: then its time means nothing.

    Args:
        name: of the service.
        answer: JSON of its answer: a list of label and probability, bare or as "predictions".
        expected: from `Answering.answer` of the same image.

    Raises:
        MeasurementError: another label or order, or a probability that is off by 1e-4 or more.
    """
    given = answer["predictions"] if isinstance(answer, dict) else answer
    same = [one["label"] for one in given] == [one["label"] for one in expected] and all(
        abs(one["probability"] - other["probability"]) < 1e-4
        for one, other in zip(given, expected, strict=True)
    )
    if not same:
        raise MeasurementError(
            f"{name} answers {json.dumps(given)[:200]}; expected {json.dumps(expected)[:200]}: "
            "it computes something else."
        )


def _environment(artifact: Path) -> dict[str, str]:
    # The parent's path, because a run through an overlay of packages has some from there.
    return {
        **os.environ,
        "STILLROOM_ARTIFACT": str(artifact),
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
    }


def _first_answer(
    child: subprocess.Popen[bytes], url: str, kind: str, photo: bytes, log: Path
) -> Any:
    deadline = time.monotonic() + READY_TIMEOUT_S
    with httpx.Client(timeout=5.0) as client:
        while time.monotonic() < deadline and child.poll() is None:
            try:
                answer = _ask(client, url, kind, photo)
                if answer.status_code == httpx.codes.OK:
                    return answer.json()
            except httpx.TransportError:
                pass
            time.sleep(0.02)
    said = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    raise MeasurementError(f"{url} did not answer; its last lines:\n" + "\n".join(said))


def _ask(client: httpx.Client, url: str, kind: str, photo: bytes) -> httpx.Response:
    if kind == RAW:
        return client.post(url, content=photo, headers={"content-type": "image/jpeg"})
    return client.post(url, files={"image": ("photo.jpg", photo, "image/jpeg")})


def _stop(child: subprocess.Popen[bytes], tree: ProcessTree) -> None:
    """LitServe's children outlive their parent, so all that were there are ended."""
    members = tree.members()
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for pid in members:
        if pid != child.pid:
            _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

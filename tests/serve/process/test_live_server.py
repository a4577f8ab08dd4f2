"""The real `bentoml serve` processes on a loopback port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from serve import client
from serve.contract.errors import ArtifactError, ServiceError, UsageError
from serve.process import launch
from serve.process.launch import running_server, serve_forever

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live") / "serve.log"


@pytest.fixture(scope="module")
def url(tiny_artifact: Path, log_path: Path) -> Iterator[str]:
    with running_server(tiny_artifact, log_path=log_path) as base:
        yield base


@pytest.fixture(autouse=True)
def alive_after(request) -> Iterator[None]:
    yield
    if "url" in request.fixturenames:
        assert httpx.get(request.getfixturevalue("url") + "/readyz").status_code == 200


def test_a_photo_is_classified(url: str, jpeg: bytes) -> None:
    answer = client.classify(url, jpeg, top_k=2)
    assert len(answer["predictions"]) == 2
    assert client.classify(url + "/", jpeg)["model"]["digest"] == answer["model"]["digest"]
    assert client.describe_model(url)["golden"]["images"] == 6


def test_many_photos_keep_their_order(url: str, make_picture, encode) -> None:
    blobs = [encode(make_picture(seed), "JPEG") for seed in range(30)]
    together = client.classify_many(url, blobs, concurrency=8)
    assert together == [client.classify(url, blob) for blob in blobs]
    assert len({str(answer["predictions"]) for answer in together}) == 30


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [
        (b"", 400, "empty-body"),
        (b"hello", 415, "unsupported-image"),
        (None, 422, "truncated-image"),
    ],
)
def test_the_client_says_what_was_wrong(url: str, jpeg: bytes, data, status, slug) -> None:
    with pytest.raises(ServiceError, match=f"answered {status}: [A-Z]") as caught:
        client.classify(url, jpeg[:400] if data is None else data)
    assert (caught.value.status, caught.value.slug) == (status, slug)


def test_answers_of_bentoml_itself_are_problems(url: str, is_problem) -> None:
    is_problem(httpx.get(f"{url}/docs.json"), 404, "not-found")
    is_problem(httpx.get(f"{url}/v1/classify"), 405, "method-not-allowed")
    assert httpx.get(f"{url}/livez").status_code == httpx.get(f"{url}/healthz").status_code == 200
    metrics = httpx.get(f"{url}/metrics").text
    assert "stillroom_requests_total" in metrics
    assert "stillroom_requests_in_flight 0.0" in metrics  # a scrape counts for nothing


@pytest.mark.parametrize("chunked", [False, True])
def test_50_mb_are_refused_and_the_sender_sees_it(url: str, is_problem, chunked: bool) -> None:
    block = b"\xff\xd8\xff" + b"x" * (2**20 - 3)
    body = (block for _ in range(50)) if chunked else block * 50
    headers = {"content-type": "image/jpeg"}
    response = httpx.post(f"{url}/v1/classify", content=body, headers=headers, timeout=30)
    is_problem(response, 413, "too-many-bytes")


def raw(url: str, data: bytes) -> bytes:
    parts = httpx.URL(url)
    with socket.create_connection((parts.host, parts.port), timeout=20) as wire:
        wire.sendall(data)
        answer = b""
        while piece := wire.recv(65536):
            answer += piece
    return answer


def test_both_kinds_of_length_are_refused(url: str) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    answer = raw(url, head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"ambiguous-length" in answer or b"bad-request" in answer  # whoever reads it first


@pytest.mark.parametrize(
    "data",
    [
        b"GET /../../etc/passwd HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n",
        b"GET /%2e%2e/ HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n",
        b"GET /v1/model%00 HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 80_000 + b" HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"nonsense\r\n\r\n",
    ],
)
def test_broken_requests_are_client_errors(url: str, data: bytes) -> None:
    answer = raw(url, data)
    assert answer.startswith(b"HTTP/1.1 4"), answer[:100]


def test_the_log_is_one_json_line_per_request(url: str, log_path: Path, jpeg: bytes) -> None:
    headers = {"x-request-id": "find-me", "content-type": "image/jpeg"}
    httpx.post(f"{url}/v1/classify", content=jpeg[:300], headers=headers)
    deadline = time.monotonic() + 5
    while "find-me" not in log_path.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    text = log_path.read_text()
    [line] = [json.loads(row) for row in text.splitlines() if "find-me" in row]
    assert line["error"] == "truncated-image"
    assert "Traceback" not in text


def processes_naming(text: str) -> list[int]:
    """Pids of live processes with `text` in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and text.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_a_golden_mismatch_ends_before_ready_with_one_line(
    artifact_copy: Path, tmp_path: Path, make_model, rewrite_manifest
) -> None:
    (artifact_copy / "model.onnx").write_bytes(make_model(1, 32, 4))
    rewrite_manifest(artifact_copy)
    log = tmp_path / "log"
    with (
        pytest.raises(ServiceError, match=r"exit code 2.*\n.*predicted wrongly") as caught,
        running_server(artifact_copy, log_path=log),
    ):
        pytest.fail("it must not get ready")
    assert "Traceback" not in str(caught.value)
    assert log.read_text().count("\n") == 1
    assert not processes_naming(str(artifact_copy))


def test_a_damaged_artifact_starts_nothing(artifact_copy: Path, tmp_path: Path) -> None:
    (artifact_copy / "reference.csv").write_bytes(b"")
    with pytest.raises(ArtifactError, match="is damaged"):
        serve_forever(artifact_copy)
    with (
        pytest.raises(ArtifactError, match="is damaged"),
        running_server(artifact_copy, log_path=tmp_path / "log"),
    ):
        pytest.fail("it must not start")
    assert not (tmp_path / "log").exists()


def test_a_port_in_use_is_said(tiny_artifact: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} is in use. Choose another with --port"):
            serve_forever(tiny_artifact, port=port)
    with pytest.raises(UsageError, match="no such address"):
        serve_forever(tiny_artifact, host="no.such.host.invalid")


def test_no_answer_is_said() -> None:
    with pytest.raises(
        ServiceError, match=r"No response from http://127\.0\.0\.1:9/.*Check the addr"
    ):
        client.classify("http://127.0.0.1:9", b"x")
    with pytest.raises(ServiceError, match="No response from"):
        client.classify("nonsense", b"x")


SERVE = """
import sys
from pathlib import Path
from serve.process.launch import serve_forever
sys.exit(serve_forever(Path(sys.argv[1]), host="localhost", port=int(sys.argv[2]), say=print))
"""


@pytest.fixture
def launcher(artifact_copy: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    port = str(launch._free_port())
    command = [sys.executable, "-u", "-c", SERVE, str(artifact_copy), port]
    env = {**os.environ, "TMPDIR": str(tmp_path)}  # what a killed launcher cannot remove
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            assert any("stillroom serves tiny" in line for line in process.stdout)
            yield process
        finally:
            process.kill()


def test_a_slow_start_is_told(artifact_copy: Path) -> None:
    impatient = "import serve.process.launch\nserve.process.launch.READY_TIMEOUT_S = 0.2\nsys.exit"
    script = SERVE.replace("sys.exit", impatient)
    command = [sys.executable, "-u", "-c", script, str(artifact_copy), str(launch._free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            assert "not ready yet" in first
            assert any("stillroom serves tiny" in line for line in process.stdout)
        finally:
            process.terminate()
        assert process.wait(30) == 0


DEFAULT_SIGNALS = """
import signal
for one in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU"):
    signal.signal(getattr(signal, one), signal.SIG_DFL)
"""


def test_what_the_service_refuses_is_an_error_line(artifact_copy: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(artifact_copy), str(launch._free_port())]
    env = {**os.environ, "STILLROOM_BACKEND": "tensorrt-fp16"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: backend = 'tensorrt-fp16': ")
    assert "Traceback" not in done.stderr


def test_sigterm_ends_everything_with_exit_code_0(launcher, artifact_copy: Path) -> None:
    name = f"STILLROOM_ARTIFACT={artifact_copy}"
    assert len(processes_naming(name)) >= 2
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(30) == 0
    assert not processes_naming(name)


@pytest.mark.ci
@pytest.mark.parametrize("number", ["HUP", "QUIT", "USR1", "USR2", "ALRM", "XCPU", "KILL"])
def test_every_ending_signal_drains_and_leaves_nothing(
    artifact_copy: Path, jpeg: bytes, tmp_path: Path, number: str
) -> None:
    """A request whose body is half here when the signal comes is answered."""
    port = launch._free_port()
    (tmp_path / "t").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "t")}
    command = [sys.executable, "-c", DEFAULT_SIGNALS + SERVE, str(artifact_copy), str(port)]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
        ready = lambda: launch._wait_ready(process, "127.0.0.1", port, 1.0)  # noqa: E731
        assert wait_for(ready, 90)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
            head = f"content-type: image/jpeg\r\ncontent-length: {len(jpeg)}\r\n\r\n"
            wire.sendall(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\n" + head.encode())
            wire.sendall(jpeg[:100])
            time.sleep(0.5)
            process.send_signal(getattr(signal, f"SIG{number}"))
            time.sleep(0.3)
            wire.sendall(jpeg[100:])
            assert wire.recv(12) == b"HTTP/1.1 200"
        assert process.wait(60) == (0 if number != "KILL" else -signal.SIGKILL)
    assert wait_for(lambda: not list((tmp_path / "t").iterdir()))


@pytest.mark.ci
@pytest.mark.parametrize("victim", ["launcher", "bentoml"])
def test_sigkill_leaves_no_orphan(launcher, artifact_copy: Path, victim: str) -> None:
    name = f"STILLROOM_ARTIFACT={artifact_copy}"
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(launcher.pid if victim == "launcher" else int(children[0]), signal.SIGKILL)
    assert wait_for(lambda: not processes_naming(name)), processes_naming(name)
    if victim == "bentoml":
        assert launcher.wait(20) == 128 + signal.SIGKILL

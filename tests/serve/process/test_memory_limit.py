"""The service in a group of little memory, as a container is: nothing that is sent ends it."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from PIL import Image

from serve.process.cgroups import _groups
from serve.process.launch import _free_port
from tests.serve.live import JPEG, Service, ready, service, wait_until

pytestmark = [pytest.mark.ci, pytest.mark.e2e, pytest.mark.timeout(600)]
MIB = 2**20
ANY = {"content-type": "application/octet-stream"}


def file_of(mode: str, size: tuple[int, int], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def limited() -> Iterator[Callable[[int], Path]]:
    """Make a group of so many MiB below our own."""
    own = next(_groups(Path("/")), None)
    made: list[Path] = []

    def group(mib: int) -> Path:
        if own is None:
            pytest.skip("no memory cgroup is mounted here")
        folder = own / f"stillroom-test-{mib}-{time.monotonic_ns()}"
        try:
            folder.mkdir()
            made.append(folder)
            [file] = [f for f in LIMIT_FILES if (folder / f).exists()]
            (folder / file).write_text(str(mib * MIB))
        except (OSError, ValueError) as error:
            pytest.skip(f"a memory cgroup cannot be made here: {error}")
        return folder

    yield group
    for folder in made:
        for _ in range(50):
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


LIMIT_FILES = ("memory.limit_in_bytes", "memory.max")

# Each is the most that its kind may be by default, or beyond it.
HOSTILE = {
    "WebP of 1 578 bytes": ("RGBA", (6300, 6300), "WEBP", {"lossless": True}),
    "WebP of 8 megapixels": ("RGBA", (3840, 2160), "WEBP", {"lossless": True, "method": 0}),
    "PNG of 16 megapixels": ("RGBA", (4600, 3500), "PNG", {}),
    "PNG of 16 bits": ("I;16", (4600, 3500), "PNG", {}),
    "JPEG of 39 megapixels": ("RGB", (7200, 5400), "JPEG", {}),
    "progressive JPEG of 24": ("RGB", (6000, 4000), "JPEG", {"progressive": True}),
    "JPEG in CMYK of 23": ("CMYK", (5600, 4200), "JPEG", {}),
}


@pytest.fixture(scope="module")
def hostile() -> list[bytes]:
    return [file_of(mode, size, kind, **options) for mode, size, kind, options in HOSTILE.values()]


def asked(url: str, data: bytes, timeout_s: float = 60) -> int:
    try:
        return httpx.post(
            f"{url}/v1/classify", content=data, headers=ANY, timeout=timeout_s
        ).status_code
    except httpx.TransportError:
        return 0


def is_alive(running: Service, workers: set[int]) -> None:
    assert running.process.poll() is None, running.log.read_text()[-2000:]
    assert running.workers() == workers, running.log.read_text()[-2000:]
    assert ready(running)


@pytest.mark.parametrize(("mib", "workers"), [(512, 1), (1024, 1), (1024, 2)])
def test_hostile_images_kill_nobody_and_others_are_answered(
    tiny_artifact: Path, tmp_path: Path, jpeg: bytes, limited, hostile, mib: int, workers: int
) -> None:
    group = limited(mib)
    with service(
        tiny_artifact, _free_port(), tmp_path, workers=workers, group=group, deadline_ms="30000"
    ) as running:
        before = running.workers()
        others: list[int] = []
        stop = threading.Event()

        def ask_others() -> None:
            while not stop.is_set():
                others.append(asked(running.url, jpeg))
                time.sleep(0.1)

        good = threading.Thread(target=ask_others)
        good.start()
        try:
            for data in hostile:  # one after the other, then many at once
                assert asked(running.url, data) in (200, 413)
            with ThreadPoolExecutor(12) as pool:
                found = list(pool.map(lambda data: asked(running.url, data), hostile * 4))
        finally:
            stop.set()
            good.join()
        assert set(found) <= {200, 413, 503, 504}, found
        assert set(others) <= {200, 503}
        assert others.count(200) >= len(others) / 2
        is_alive(running, before)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_container_of_1_gib_answers_what_cameras_write(
    tiny_artifact: Path, tmp_path: Path, limited, kind: str
) -> None:
    jpegs = [
        file_of("RGB", size, "JPEG", progressive=progressive)
        for size in ((4000, 3000), (6000, 4000), (8000, 6000))
        for progressive in (False, True)
    ]
    files = jpegs if kind == "JPEG" else [file_of(mode, (4000, 3000), "PNG") for mode in PNG_MODES]
    with service(tiny_artifact, _free_port(), tmp_path, group=limited(1024)) as running:
        before = running.workers()
        assert [asked(running.url, data) for data in files] == [200] * len(files)
        is_alive(running, before)


PNG_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")


def test_held_bodies_leave_room_for_others(
    tiny_artifact: Path, tmp_path: Path, jpeg: bytes, limited
) -> None:
    """Bodies of 9 MiB that stop half-way: more of them than a container of 512 MiB can hold."""
    padded = jpeg + bytes(9 * MIB)
    with service(tiny_artifact, _free_port(), tmp_path, group=limited(512)) as running:
        before = running.workers()
        with ThreadPoolExecutor(40) as pool:
            found = list(pool.map(lambda data: asked(running.url, data), [padded] * 80))
        assert set(found) <= {200, 422, 503}, found
        is_alive(running, before)


def test_a_worker_that_memory_kills_is_replaced_and_is_no_crash_loop(
    tiny_artifact: Path, tmp_path: Path, jpeg: bytes, limited
) -> None:
    """The limit falls below what the worker has: as if a neighbour in the container grew."""
    group = limited(1024)
    with service(tiny_artifact, _free_port(), tmp_path, group=group, max_deaths="1") as running:
        for _ in range(3):
            before = running.workers()
            _grow_beside(group, before)
            wait_until(
                lambda before=before: ready(running) and running.workers() != before, timeout_s=90
            )
            assert httpx.post(f"{running.url}/v1/classify", content=jpeg, headers=JPEG).is_success
        assert "memory ran out; they are replaced" in running.log.read_text()
        assert running.process.poll() is None


def _grow_beside(group: Path, workers: set[int]) -> None:
    """Make the kernel kill the worker: it is preferred, and a neighbour takes all that is left."""

    for worker in workers:
        Path(f"/proc/{worker}/oom_score_adj").write_text("1000")
    code = (
        "import sys, time; open(sys.argv[1], 'w').write('0')\n"
        "kept = []\n"
        "while len(kept) < 120: kept.append(bytearray(b'x') * 2**23); time.sleep(0.01)\n"
    )
    neighbour = subprocess.Popen([sys.executable, "-c", code, f"{group}/cgroup.procs"])
    try:
        wait_until(lambda: not all(Path(f"/proc/{w}").exists() for w in workers), timeout_s=60)
    finally:
        neighbour.kill()
        neighbour.wait()

"""Thousands of malformed bodies against the real server: no 5xx, no hang, no growth."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from serve.process.launch import running_process

pytestmark = [pytest.mark.e2e, pytest.mark.ci, pytest.mark.timeout(3600)]
SOAK = bool(os.environ.get("STILLROOM_SOAK"))
BODIES = 30_000 if SOAK else 2_000
WARM_UP = 300  # bodies, after which memory has been allocated


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(len(changed) or 1)
        kind = rng.randrange(4)
        if kind == 0:
            changed[at : at + 1] = rng.randbytes(1)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            changed[at:at] = rng.randbytes(rng.randint(1, 30))
        else:
            del changed[at : at + rng.randint(1, 30)]
    return bytes(changed)


def resident_mib(root: int) -> float:
    """Resident memory of a process and all below it."""
    parent = psutil.Process(root)
    processes = [parent, *parent.children(recursive=True)]
    return float(sum(one.memory_info().rss for one in processes)) / 2**20


def test_malformed_bodies(
    tiny_artifact: Path, tmp_path: Path, make_picture, encode, capsys
) -> None:
    rng = random.Random(7)
    image = make_picture(1, 80, 60)
    seeds = [encode(image, kind) for kind in ("JPEG", "PNG", "WEBP")]
    form = (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n%b\r\n--b--\r\n'
    )
    types = ["image/jpeg", "application/octet-stream", "multipart/form-data; boundary=b"]
    statuses: Counter[int] = Counter()
    slowest_s = 0.0
    before_mib = 0.0
    with (
        running_process(tiny_artifact, log_path=tmp_path / "log") as running,
        httpx.Client(base_url=running.url, timeout=10) as client,
    ):
        for turn in range(BODIES):
            if turn == WARM_UP:
                before_mib = resident_mib(running.pid)
            data = mutated(rng.choice(seeds), rng)
            content_type = types[turn % 3]
            if content_type.startswith("multipart"):
                data = form % data if turn % 2 else mutated(form % data, rng)
            start = time.monotonic()
            answer = client.post(
                "/v1/classify", content=data, headers={"content-type": content_type}
            )
            slowest_s = max(slowest_s, time.monotonic() - start)
            statuses[answer.status_code] += 1
            if answer.status_code != 200:
                assert answer.headers["content-type"] == "application/problem+json"
        assert client.get("/readyz").status_code == 200
        after_mib = resident_mib(running.pid)
    with capsys.disabled():
        print(
            f"\n{BODIES} bodies, {dict(statuses)}, slowest answer {slowest_s * 1e3:.0f} ms; "
            f"{before_mib:.1f} MiB after {WARM_UP}, {after_mib:.1f} MiB at the end"
        )
    assert after_mib <= 1.05 * before_mib
    assert not [status for status in statuses if status >= 500], statuses
    assert slowest_s < 2, slowest_s
    assert len(statuses) >= 4, statuses  # the mutations reach more than one check
    assert "Traceback" not in (tmp_path / "log").read_text()

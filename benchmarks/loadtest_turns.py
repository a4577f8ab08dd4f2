"""One load by each generator that `benchmarks/loadtest_crosscheck.py` sets side by side.

Each is a process of its own; its CPU time is that of it and of all it started.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["USERS", "Setting", "Turn", "hey", "locust", "ours", "script", "wrk"]

ROOT = Path(__file__).parents[1]
LOCUST_START_S = 3
"""Locust counts its run time from before its own imports; asked for 2 s it may send nothing."""
USERS = 4
WRK_SCRIPT = """
local bodies, n, at = {{}}, 0, 0
for name in io.popen('ls {photos}/*.jpg'):lines() do
  local file = io.open(name, 'rb'); n = n + 1; bodies[n] = file:read('*a'); file:close()
end
wrk.method = 'POST'; wrk.headers['Content-Type'] = 'image/jpeg'
request = function() at = at % n + 1; return wrk.format(nil, '/v1/classify', nil, bodies[at]) end
"""


@dataclass(frozen=True)
class Setting:
    """What is loaded, and how.

    Args:
        url: of the service.
        photos: folder whose JPEG files lie in it directly.
        rate: requests per second of the open loops and of Locust.
        duration_s: of each load.
    """

    url: str
    photos: Path
    rate: float
    duration_s: float

    @property
    def whole_s(self) -> int:
        """The duration for programs that take whole seconds."""
        return max(1, round(self.duration_s))


@dataclass(frozen=True)
class Turn:
    """One load: latencies in ms, requests, and CPU seconds of the generator.

    Args:
        p50_ms: and the others; of a closed loop the service latency.
        n: requests with a reply.
        cpu_s: of the generator.
        valid: whether it did not find itself invalid; only ours looks.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    n: int
    cpu_s: float
    valid: bool = True


def ours(setting: Setting, seed: int, *loop: str) -> Turn:
    """`python -m loadtest`, any answer taken for right."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "loadtest", setting.url, "--corpus", str(setting.photos)]
        command += ["--out", out, "--duration-s", f"{setting.duration_s:g}", "--warmup-s", "0"]
        cpu_s, _ = _run([*command, "--seed", str(seed), "--answer", "", *loop], codes=(0, 3))
        summary = json.loads((Path(out) / "summary.json").read_text())
    kind = "intended" if summary["mode"] == "open" else "service"
    return replace(_turn(summary[kind], cpu_s), valid=summary["validity"]["valid"])


def script(setting: Setting, seed: int) -> Turn:
    """The independent open loop."""
    command = [sys.executable, "-m", "benchmarks.loadtest_script", setting.url]
    command += [str(setting.photos), "--rate", f"{setting.rate:g}", "--seed", str(seed)]
    cpu_s, text = _run([*command, "--duration-s", f"{setting.duration_s:g}"])
    figures = json.loads(text)
    if figures["failed"]:
        raise SystemExit(f"the script had {figures['failed']} failures; is the service ours?")
    return _turn(figures, cpu_s)


def wrk(setting: Setting, seed: int) -> Turn:
    """A closed loop in C; it adds what it thinks it left out (`stats_correct` of its wrk.c)."""
    with tempfile.TemporaryDirectory() as folder:
        lua = Path(folder) / "photos.lua"
        lua.write_text(WRK_SCRIPT.format(photos=setting.photos))
        command = ["wrk", "-t1", f"-c{USERS}", f"-d{setting.whole_s}s"]
        cpu_s, text = _run([*command, "--latency", "-s", str(lua), setting.url])
    found = {name: _ms(value) for name, value in re.findall(r"(50|90|99)%\s+([\d.]+[a-z]+)", text)}
    requests = re.search(r"(\d+) requests in", text)
    if requests is None or len(found) < 3:
        raise SystemExit(f"wrk said nothing that is understood: {text[:200]}")
    return Turn(found["50"], found["90"], found["99"], int(requests[1]), cpu_s)


def hey(setting: Setting, seed: int) -> Turn:
    """A closed loop in Go, which corrects nothing; it sends one photo again and again."""
    photo = sorted(setting.photos.glob("*.jpg"))[0]
    command = ["hey", "-z", f"{setting.whole_s}s", "-c", str(USERS), "-m", "POST"]
    command += ["-T", "image/jpeg", "-D", str(photo), f"{setting.url}/v1/classify"]
    cpu_s, text = _run(command)
    found = {
        name: 1000 * float(s) for name, s in re.findall(r"(50|90|99)%+ in ([\d.]+) secs", text)
    }
    requests = re.search(r"\[200\]\s+(\d+) responses", text)
    if requests is None or len(found) < 3:
        raise SystemExit(f"hey said nothing that is understood: {text[:200]}")
    return Turn(found["50"], found["90"], found["99"], int(requests[1]), cpu_s)


def locust(setting: Setting, seed: int) -> Turn:
    """FastHttpUser with a constant throughput; closed, and its percentiles are rounded."""
    command = [sys.executable, "-m", "locust", "-f", "benchmarks/loadtest_locust.py", "--headless"]
    command += ["--host", setting.url, "-u", str(USERS), "-r", str(USERS), "--only-summary"]
    command += ["-t", f"{setting.whole_s + LOCUST_START_S}s", "--json"]
    variables = {"LOADTEST_PHOTOS": str(setting.photos), "LOADTEST_RATE": f"{setting.rate:g}"}
    cpu_s, text = _run(command, **variables, LOADTEST_USERS=str(USERS))
    entries = json.loads(text)
    if not entries:
        raise SystemExit("Locust's user sent nothing; raise --duration-s")
    (entry,) = entries
    ascending = sorted((float(ms), int(n)) for ms, n in entry["response_times"].items())
    found = [_at(ascending, entry["num_requests"], percentile) for percentile in (50, 90, 99)]
    return Turn(found[0], found[1], found[2], int(entry["num_requests"]), cpu_s)


def _turn(figures: dict[str, Any], cpu_s: float) -> Turn:
    latencies = (figures[name] for name in ("p50_ms", "p90_ms", "p99_ms"))
    return Turn(*latencies, n=figures["n"], cpu_s=cpu_s)


def _run(command: list[str], codes: tuple[int, ...] = (0,), **variables: str) -> tuple[float, str]:
    before = _children_cpu_s()
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if done.returncode not in codes:
        raise SystemExit(f"{command[:4]} ended with {done.returncode}: {done.stderr[-300:]}")
    return _children_cpu_s() - before, done.stdout


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _ms(text: str) -> float:
    value, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]


def _at(ascending: list[tuple[float, int]], n: int, percentile: int) -> float:
    passed = 0
    for value_ms, count in ascending:
        passed += count
        if passed * 100 >= percentile * n:
            return value_ms
    return ascending[-1][0]

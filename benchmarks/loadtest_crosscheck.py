"""Our load test beside an independent script, beside wrk, and beside Locust's own user.

    python -m benchmarks.loadtest_crosscheck PHOTOS --url http://127.0.0.1:3000 --rate 50 \
        --rounds 5 --table results.md

Each round loads the same service with the same JPEGs at the same rate by our open loop and by
`benchmarks/loadtest_script.py` (asyncio; another author of schedule, sockets and percentiles), by
our closed loop and by wrk (closed too) with as many connections, and by Locust's FastHttpUser at
that rate. The order within a round is drawn at random; ratios are taken within a round. Without a
URL the service is the load test's empty server with 20 ms of delay, in a process of its own; with
--freeze it stands still 1 s in every 5, which open loops see and closed ones hide; wrk, closed too,
adds the requests that it thinks it left out before it prints percentiles (its `stats_correct`).

CPU per request is that of the generator's process and all it started, start-up taken off: the same
command with a load of half the length is subtracted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.null_server import running_null_server

ROOT = Path(__file__).parents[1]
AGREEMENT = 0.05
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


@dataclass(frozen=True)
class Turn:
    """One load: latencies in ms, requests, and CPU seconds of the generator."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    n: int
    cpu_s: float


def ours(setting: Setting, seed: int, *loop: str) -> Turn:
    """`python -m loadtest`, any answer taken for right."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "loadtest", setting.url, "--corpus", str(setting.photos)]
        command += ["--out", out, "--duration-s", f"{setting.duration_s:g}", "--warmup-s", "0"]
        cpu_s, _ = _run([*command, "--seed", str(seed), "--answer", "", *loop], codes=(0, 3))
        summary = json.loads((Path(out) / "summary.json").read_text())
    kind = "intended" if summary["mode"] == "open" else "service"
    return _turn(summary[kind], cpu_s)


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
    """A closed loop in C; its percentiles are those of the service latency."""
    with tempfile.TemporaryDirectory() as folder:
        lua = Path(folder) / "photos.lua"
        lua.write_text(WRK_SCRIPT.format(photos=setting.photos))
        command = ["wrk", "-t1", f"-c{USERS}", f"-d{max(1, round(setting.duration_s))}s"]
        cpu_s, text = _run([*command, "--latency", "-s", str(lua), setting.url])
    found = {name: _ms(value) for name, value in re.findall(r"(50|90|99)%\s+([\d.]+[a-z]+)", text)}
    requests = re.search(r"(\d+) requests in", text)
    if requests is None or len(found) < 3:
        raise SystemExit(f"wrk said nothing that is understood: {text[:200]}")
    return Turn(found["50"], found["90"], found["99"], int(requests[1]), cpu_s)


def locust(setting: Setting, seed: int) -> Turn:
    """FastHttpUser with a constant throughput; closed, and its percentiles are rounded."""
    command = [sys.executable, "-m", "locust", "-f", "benchmarks/loadtest_locust.py", "--headless"]
    command += ["--host", setting.url, "-u", str(USERS), "-r", str(USERS), "--only-summary"]
    command += ["-t", f"{max(1, round(setting.duration_s))}s", "--json"]
    variables = {"LOADTEST_PHOTOS": str(setting.photos), "LOADTEST_RATE": f"{setting.rate:g}"}
    cpu_s, text = _run(command, **variables, LOADTEST_USERS=str(USERS))
    (entry,) = json.loads(text)
    ascending = sorted((float(ms), int(n)) for ms, n in entry["response_times"].items())
    found = [_at(ascending, entry["num_requests"], percentile) for percentile in (50, 90, 99)]
    return Turn(found[0], found[1], found[2], int(entry["num_requests"]), cpu_s)


def measure(setting: Setting, rounds: int, seed: int) -> dict[str, list[Turn]]:
    """All loads in each round, in an order that is drawn for it."""
    rate = ("--rate", f"{setting.rate:g}")
    closed = ("--mode", "closed", "--users", str(USERS))
    loads: dict[str, Callable[[Setting, int], Turn]] = {
        "open": lambda setting, seed: ours(setting, seed, *rate),
        "script": script,
        "closed": lambda setting, seed: ours(setting, seed, *closed),
        "locust": locust,
    }
    if shutil.which("wrk"):
        loads["wrk"] = wrk
    draw = random.Random(seed)
    turns: dict[str, list[Turn]] = {name: [] for name in loads}
    for number in range(rounds):
        for name in draw.sample(list(loads), len(loads)):
            turns[name].append(loads[name](setting, 1000 * seed + number))
            print(f"round {number + 1} {name:<7}{turns[name][-1]}", flush=True)
    return turns


def cpu_ms_per_request(setting: Setting, rounds: int) -> dict[str, list[float]]:
    """CPU of our generator and of Locust's user per request, without what starting costs."""
    half = Setting(setting.url, setting.photos, setting.rate, setting.duration_s / 2)
    rate = ("--rate", f"{setting.rate:g}")
    kinds: dict[str, Callable[[Setting], Turn]] = {
        "open": lambda setting: ours(setting, 0, *rate),
        "locust": lambda setting: locust(setting, 0),
    }
    costs: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds):
        for name in sorted(kinds, reverse=bool(number % 2)):
            whole, part = kinds[name](setting), kinds[name](half)
            costs[name].append(1000 * (whole.cpu_s - part.cpu_s) / max(1, whole.n - part.n))
    return costs


def table_of(turns: dict[str, list[Turn]], costs: dict[str, list[float]]) -> str:
    """Markdown: medians over rounds, and the ratios that are to be near 1."""
    fields = ("p50_ms", "p90_ms", "p99_ms")
    lines = ["| load | p50 ms | p90 ms | p99 ms | requests |", "|---|---|---|---|---|"]
    for name, own in turns.items():
        medians = [f"{median(getattr(turn, field) for turn in own):.2f}" for field in fields]
        lines.append(f"| {' | '.join([name, *medians, str(sum(turn.n for turn in own))])} |")
    lines += ["", "| within a round | median | range | within 5 % |", "|---|---|---|---|"]
    for field in fields:
        lines.append(_ratio_row(turns, "open", "script", field))
        if "wrk" in turns:
            lines.append(_ratio_row(turns, "open", "wrk", field))
            lines.append(_ratio_row(turns, "closed", "wrk", field))
    lines += ["", "| CPU ms per request, without start-up | median | range |", "|---|---|---|"]
    for name, values in costs.items():
        span = f"{min(values):.3f} to {max(values):.3f}"
        lines.append(f"| {name} | {median(values):.3f} | {span} |")
    return "\n".join(lines)


def conditions(setting: Setting, rounds: int) -> str:
    """Where and how the figures were made."""
    cores = len(os.sched_getaffinity(0))
    load = ", ".join(f"{figure:.2f}" for figure in os.getloadavg())
    return (
        f"{rounds} rounds of {setting.duration_s:g} s at {setting.rate:g}/s; {cores} cores, "
        f"{platform.processor() or platform.machine()}; load average {load}; Python "
        f"{platform.python_version()}, Locust {metadata.version('locust')}"
    )


def _turn(figures: dict[str, Any], cpu_s: float) -> Turn:
    latencies = (figures[name] for name in ("p50_ms", "p90_ms", "p99_ms"))
    return Turn(*latencies, n=figures["n"], cpu_s=cpu_s)


def _ratio_row(turns: dict[str, list[Turn]], one: str, other: str, field: str) -> str:
    pairs = zip(turns[one], turns[other], strict=True)
    ratios = [getattr(a, field) / getattr(b, field) for a, b in pairs]
    near = "yes" if abs(median(ratios) - 1) <= AGREEMENT else "no"
    span = f"{min(ratios):.3f} to {max(ratios):.3f}"
    return (
        f"| {field.removesuffix('_ms')} {one} / {other} | {median(ratios):.3f} | {span} | {near} |"
    )


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


def main() -> None:
    """Print the table and, if asked to, write it."""
    parser = argparse.ArgumentParser(description="The load test beside its peers.")
    parser.add_argument("photos", type=Path, help="folder with JPEG files in it")
    parser.add_argument("--url", help="a stillroom service; default: an empty server, 20 ms")
    parser.add_argument("--freeze", action="store_true", help="of the empty server: 1 s in 5")
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        server = running_null_server(delay_ms=20, freezes=options.freeze)
        url = options.url or stack.enter_context(server)
        photos = options.photos.resolve()
        setting = Setting(url.rstrip("/"), photos, options.rate, options.duration_s)
        said = conditions(setting, options.rounds)
        turns = measure(setting, options.rounds, options.seed)
        costs = cpu_ms_per_request(setting, options.rounds)
    text = f"{said}; after: {os.getloadavg()[0]:.2f}\n\n{table_of(turns, costs)}\n"
    print(f"\n{text}")
    if options.table:
        options.table.write_text(text)


if __name__ == "__main__":
    main()

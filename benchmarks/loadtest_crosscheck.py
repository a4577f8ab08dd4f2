"""Our load test beside an independent script, beside wrk and hey, and beside Locust's own user.

    python -m benchmarks.loadtest_crosscheck PHOTOS --rate 200 --rounds 3 --table T.md

Each round loads the same service with the same JPEGs: by our open loop and by
`benchmarks/loadtest_script.py` (asyncio; another author of schedule, sockets and percentiles), both
at the rate; by our closed loop, wrk and hey (closed, too) with as many connections; and by Locust's
FastHttpUser at that rate. The order within a round is drawn at random, ratios are taken within a
round. The service is the load test's empty server with 20 ms of delay, and then the same one that
stands still 1 s in every 5, which open loops see and closed ones hide; --url names another. Our
empty server and the generators run on different cores where there are two.

CPU per request is that of the generator's process and all it started, writing results included and
start-up taken off: the same command with a load of half the length is subtracted.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.loadtest_turns import USERS, Setting, Turn, hey, locust, ours, script, wrk
from loadtest.generator.affinity import on_cores, split_cores
from loadtest.generator.environment import fingerprint
from loadtest.generator.null_server import running_null_server

AGREEMENT = 0.05
FIELDS = ("p50_ms", "p90_ms", "p99_ms")
DELAY_MS = 20

Turns = dict[str, list[Turn]]
Costs = dict[str, list[float]]


@dataclass(frozen=True)
class Part:
    """What came of one service.

    Args:
        title: which it was.
        turns: by load, one for each round.
        costs: CPU ms per request by generator, one for each round; empty where not asked for.
    """

    title: str
    turns: Turns
    costs: Costs


def loads_of(rate: float) -> dict[str, Callable[[Setting, int], Turn]]:
    """The loads by name; those of programs that are not installed are left out."""
    closed = ("--mode", "closed", "--users", str(USERS))
    found: dict[str, Callable[[Setting, int], Turn]] = {
        "open": lambda setting, seed: ours(setting, seed, "--rate", f"{rate:g}"),
        "script": script,
        "closed": lambda setting, seed: ours(setting, seed, *closed),
        "locust": locust,
    }
    programs = {"wrk": wrk, "hey": hey}
    return found | {name: load for name, load in programs.items() if shutil.which(name)}


def measure(setting: Setting, rounds: int, seed: int, *, costly: bool) -> tuple[Turns, Costs]:
    """All loads in each round, in an order that is drawn for it.

    Args:
        setting: what is loaded.
        rounds: at least 1.
        seed: of the order and of the schedules.
        costly: whether Locust's user takes part, and what a request costs it and ours.
    """
    loads = loads_of(setting.rate)
    if not costly:
        del loads["locust"]
    half = replace(setting, duration_s=setting.whole_s // 2)
    steps = [(name, setting) for name in loads]
    steps += [(name, half) for name in ("open", "locust") if costly]
    draw = random.Random(seed)
    turns: Turns = {name: [] for name in loads}
    costs: Costs = {name: [] for name in ("open", "locust") if costly}
    for number in range(rounds):
        halves: dict[str, Turn] = {}
        for name, what in draw.sample(steps, len(steps)):
            turn = loads[name](what, 1000 * seed + number)
            if what is half:
                halves[name] = turn
            else:
                turns[name].append(turn)
            print(f"round {number + 1} {name:<7}{turn}", file=sys.stderr, flush=True)
        for name, own in costs.items():
            own.append(cost_ms(turns[name][-1], halves[name]))
    return turns, costs


def cost_ms(whole: Turn, part: Turn) -> float:
    """CPU of one request beyond what starting costs."""
    return 1000 * (whole.cpu_s - part.cpu_s) / max(1, whole.n - part.n)


def part_text(part: Part) -> str:
    """Markdown: medians over rounds, the ratios to be near 1, those that show a gap, costs."""
    lines = [f"**{part.title}**", ""]
    lines += ["| load | p50 ms | p90 ms | p99 ms | requests |", "|---|---|---|---|---|"]
    for name, own in part.turns.items():
        spans = [_span([getattr(turn, field) for turn in own], 2) for field in FIELDS]
        row = [name + _invalid(own), *spans, str(sum(turn.n for turn in own))]
        lines.append(f"| {' | '.join(row)} |")
    others = [name for name in ("closed", "wrk", "hey") if name in part.turns]
    lines += ["", "| within a round | p50 | p90 | p99 |", "|---|---|---|---|"]
    for other in ("script", *others):
        ratios = [_span(_ratios(part.turns, other, field), 3) for field in FIELDS]
        lines.append(f"| {' | '.join([f'open / {other}', *ratios])} |")
    lines.append("")
    lines += [_agreement(part.turns, field) for field in ("p50_ms", "p99_ms")]
    if part.costs:
        lines += ["", "| generator | CPU ms per request |", "|---|---|"]
        lines += [f"| {name} | {_span(values, 3)} |" for name, values in part.costs.items()]
    return "\n".join(lines)


def conditions(setting: Setting, rounds: int) -> str:
    """Where and how the figures were made."""
    here = fingerprint()
    photos = len(list(setting.photos.glob("*.jpg")))
    split = split_cores()
    cores = f"generators on core {split.generators[0]}" if split.generators else "one core for all"
    return (
        f"Rounds: {rounds}, each of {setting.duration_s:g} s a load at {setting.rate:g} "
        f"requests/s, {photos} JPEGs; closed loops with {USERS} connections. Medians "
        f"over rounds, lowest to highest in brackets. {here['cpu_model']}, "
        f"{here['cpu_count']} cores, {cores}; Python "
        f"{here['python']}, Locust {here['locust']}{_versions()}."
    )


def report(command: str, said: str, parts: list[Part], load_before: float) -> str:
    """The whole result."""
    head = ["# The load test beside an independent script, wrk, hey and Locust's own user", ""]
    busy = f"Load average {load_before:.2f} before and {os.getloadavg()[0]:.2f} after."
    head += [f"    {command}", "", f"{said} {busy}"]
    return "\n\n".join(["\n".join(head), *map(part_text, parts)]) + "\n"


def _invalid(turns: list[Turn]) -> str:
    number = sum(not turn.valid for turn in turns)
    return f" ({number} of {len(turns)} INVALID)" if number else ""


def _agreement(turns: Turns, field: str) -> str:
    found = median(_ratios(turns, "script", field))
    held = "holds" if abs(found - 1) <= AGREEMENT else "MISSED"
    name = field.removesuffix("_ms")
    return f"- {name} open / script: {found:.3f}, 1 +- {AGREEMENT:g} is asked: {held}"


def _ratios(turns: Turns, other: str, field: str) -> list[float]:
    pairs = zip(turns["open"], turns[other], strict=True)
    return [getattr(a, field) / getattr(b, field) for a, b in pairs]


def _span(values: list[float], digits: int) -> str:
    low, high = min(values), max(values)
    return f"{median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _versions() -> str:
    """Of wrk, which says it, and whether hey took part, which does not."""
    found = ""
    if shutil.which("wrk"):
        done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
        version = re.search(r"wrk \S*?(\d+\.\d+\.\d+)", done.stdout + done.stderr)
        found += f", wrk {version[1]}" if version else ", wrk"
    return found + (", hey" if shutil.which("hey") else "")


@contextmanager
def _service(url: str | None, *, freezes: bool) -> Iterator[str]:
    """A given one, or our own with the generators on other cores."""
    if url is not None:
        yield url.rstrip("/")
        return
    with (
        running_null_server(delay_ms=DELAY_MS, freezes=freezes) as own,
        on_cores(split_cores().generators),
    ):
        yield own


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The load test beside its peers.")
    parser.add_argument("photos", type=Path, help="folder with JPEG files in it")
    parser.add_argument("--url", help="a stillroom service; default: empty servers, 20 ms")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--duration-s", type=float, default=10.0, help="of each load, at least 2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Print the result and, if asked to, write it."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not any(options.photos.glob("*.jpg")):
        parser.error(f"{options.photos} has no .jpg file directly in it")
    if options.rounds < 1 or options.duration_s < 2 or options.rate <= 0:
        parser.error("--rounds is at least 1, --duration-s 2, and --rate above 0")
    words = [f"--rate {options.rate:g} --duration-s {options.duration_s:g}"]
    words += [f"--rounds {options.rounds}", *(["--url URL"] if options.url else [])]
    command = f"python -m benchmarks.loadtest_crosscheck PHOTOS {' '.join(words)}"
    empty = f"Empty server with {DELAY_MS} ms of delay"
    places = {empty: False, f"{empty}, frozen 1 s in every 5": True}
    if options.url:
        places = {"The given service": False}
    setting = Setting("", options.photos.resolve(), options.rate, options.duration_s)
    said, before, parts = conditions(setting, options.rounds), os.getloadavg()[0], []
    for title, freezes in places.items():
        with _service(options.url, freezes=freezes) as url:
            own = replace(setting, url=url)
            found = measure(own, options.rounds, options.seed, costly=not freezes)
        parts.append(Part(title, *found))
    text = report(command, said, parts, before)
    print(text)
    if options.table:
        options.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""`python -m loadtest.compare A B`: whether B answers otherwise than A, or only looks so.

Each side is a run, a folder of repeats of it, or a max rate. Runs are compared only where machine,
load and images are the same, and what is said of a difference is its 95 % interval. Two max rates
differ where their intervals, from the rate that held to the one that did not, have no rate in
common.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.console import print_error, print_result
from loadtest.errors import InvalidMeasurement, LoadTestError, UsageError
from loadtest.extras.compare.difference import LatencyDifference, compare_runs, is_over_repeats
from loadtest.plan.arguments import OneLineParser
from loadtest.result.folder import MAX_RATE, Run, read_json, read_runs
from loadtest.result.verdict import Status, status_of, status_of_max_rate, worst
from loadtest.terminal import settle_terminal

__all__ = ["differing_fields", "main"]

MACHINE = ("cpu_count", "cpu_model", "locust", "python", "system")
LOAD = ("scenario", "mode", "users", "target_rps", "duration_s", "warmup_s", "workers", "target")
EXIT_WORSE = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two results and print what is shown.

    Returns:
        Exit code: 0 compared, 1 B is shown to be worse, 2 wrong use or different fingerprints, 3 a
        result is invalid.
    """
    settle_terminal()
    options = _parser().parse_args(arguments)
    try:
        searched = [(folder / MAX_RATE).is_file() for folder in (options.a, options.b)]
        if searched[0] != searched[1]:
            raise UsageError(
                "one of the two is a max rate and the other is not", "compare what is alike"
            )
        compare = _compare_max_rates if searched[0] else _compare_folders
        lines, is_worse = compare(options.a, options.b, force=options.force)
    except LoadTestError as error:
        print_error(error)
        return error.exit_code
    print_result("\n".join(lines))
    return EXIT_WORSE if is_worse else 0


def differing_fields(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """What keeps two summaries from being compared: `field: A, B`, one for each."""
    pairs = [(f"environment.{key}", _of(first, key), _of(second, key)) for key in MACHINE]
    pairs += [(key, first.get(key), second.get(key)) for key in LOAD]
    pairs.append(("corpus.sha256", first["corpus"]["sha256"], second["corpus"]["sha256"]))
    for side in ("generators", "service"):
        pairs.append((f"cores of {side}", _cores(first, side), _cores(second, side)))
    return [f"{name}: {_short(a)}, {_short(b)}" for name, a, b in pairs if not _alike(a, b)]


def _compare_folders(a: Path, b: Path, *, force: bool) -> tuple[list[str], bool]:
    first, second = read_runs(a), read_runs(b)
    lines = _fingerprint_notes([*first, *second], force=force)
    for run in (*first, *second):
        if status_of(run.summary) is Status.INVALID or not run.summary["validity"]["valid"]:
            _refuse_or_note(lines, f"{run.folder} is invalid: it shows its generator", force=force)
    found = compare_runs(first, second)
    for letter, folder, side in (("A", a, first), ("B", b, second)):
        requests = sum(run.summary["planned"] for run in side)
        models = sorted({one[:12] for run in side for one in run.summary["model_digests"]})
        said = f", model {', '.join(models)}" if models else ""
        verdict = worst(status_of(run.summary) for run in side)
        lines.append(
            f"{letter}  {folder}: {_plural(len(side), 'run')}, {verdict}, {requests} requests{said}"
        )
    lines.append(f"{'':10}{'A':>10}{'B':>10}  B - A (95 %)")
    lines += [_line(one) for one in found]
    lines.append(
        "intervals over repeats"
        if is_over_repeats(first, second)
        else "intervals over tenths of the time: three repeats of each tell more"
    )
    return lines, any(one.verdict == "worse" and one.name != "p50 ms" for one in found)


def _compare_max_rates(a: Path, b: Path, *, force: bool) -> tuple[list[str], bool]:
    first, second = read_json(a / MAX_RATE), read_json(b / MAX_RATE)
    lines: list[str] = []
    if first["slo"] != second["slo"]:
        raise UsageError("the two max rates are of different objectives", "search for one of them")
    probes = [_first_probe(folder) for folder in (a, b)]
    ignored = ("target_rps", "duration_s")
    for difference in differing_fields(*probes):
        if not difference.startswith(ignored):
            _refuse_or_note(lines, f"different {difference}", force=force)
    spans = []
    for letter, folder, found in (("A", a, first), ("B", b, second)):
        rate, refused = found["rate_rps"], found["refused_rps"]
        if not rate and found["note"]:
            raise InvalidMeasurement(
                f"{folder} is {status_of_max_rate(found)} and has no max rate: {found['note']}",
                "search again",
            )
        spans.append((rate, math.inf if refused is None or found["limit"] else refused))
        upper = "at least" if math.isinf(spans[-1][1]) else f"below {refused:.1f}"
        lines.append(
            f"{letter}  {folder}: {status_of_max_rate(found)}, {rate:.1f} requests/s, {upper}"
        )
    if spans[1][1] <= spans[0][0]:
        return [*lines, "B holds less: the intervals have no rate in common"], True
    if spans[0][1] <= spans[1][0]:
        return [*lines, "B holds more: the intervals have no rate in common"], False
    return [*lines, "no difference shown: the intervals overlap"], False


def _first_probe(folder: Path) -> dict[str, Any]:
    for one in sorted(folder.glob("probes/*/summary.json")):
        return read_json(one)
    raise UsageError(f"{folder} has a max rate and no probes", "search again")


def _fingerprint_notes(runs: Sequence[Run], *, force: bool) -> list[str]:
    lines: list[str] = []
    for run in runs[1:]:
        for difference in differing_fields(runs[0].summary, run.summary):
            _refuse_or_note(lines, f"different {difference} ({run.folder})", force=force)
    return lines


def _refuse_or_note(lines: list[str], text: str, *, force: bool) -> None:
    if not force:
        raise UsageError(text, "repeat one under the conditions of the other, or add --force")
    lines.append(f"warning: {text}")


def _line(one: LatencyDifference) -> str:
    values = [f"{'none' if v is None else f'{v:.2f}':>10}" for v in (one.first, one.second)]
    if one.low is None or one.first is None or one.second is None:
        gap = "not known: it falls on requests without an answer"
    else:
        gap = f"{one.second - one.first:+.2f} ({one.low:+.2f} to {one.high:+.2f})  {one.verdict}"
    return f"{one.name:10}{''.join(values)}  {gap}"


def _plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _of(summary: dict[str, Any], key: str) -> Any:
    return summary["environment"].get(key)


def _cores(summary: dict[str, Any], side: str) -> Any:
    if side == "generators":
        return [one["cores"] for one in summary["generators"]]
    return (summary.get("service_process") or {}).get("pinned_cores")


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=0.01)  # a measured duration
    return bool(a == b)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="stillroom loadtest compare",
        description="Whether B answers otherwise than A, or only looks so.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "a", type=Path, metavar="A", help="a result, a folder of repeats, a max rate"
    )
    parser.add_argument("b", type=Path, metavar="B", help="the same of what it is compared with")
    parser.add_argument("--force", action="store_true", help="also where the fingerprints differ")
    return parser


if __name__ == "__main__":
    sys.exit(main())

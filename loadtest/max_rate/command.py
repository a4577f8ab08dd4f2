"""The max rate, "R requests/s at p99 <= X ms": `python -m loadtest.promise`.

A closed loop for some seconds says where to begin, and an empty server how much the generator
manages: half of that is the most that is tried. Then each probe is an open-loop load in a
process of its own, with its own seed, judged by its raw samples. Everything is
kept: probes/<n>/ and promise.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.console import add_verbosity, open_console, print_error, print_result
from loadtest.errors import EXIT_STOPPED, LoadFailedError, LoadTestError, UsageError
from loadtest.generator.preparation import check_descriptors, import_report, raise_descriptors
from loadtest.max_rate.search import (
    CONFIRMATIONS,
    MaxRate,
    RateTrial,
    find_max_rate,
    requests_wanted,
)
from loadtest.max_rate.subprocess_runner import run_child, stopped_alike
from loadtest.max_rate.trial_folder import trial_from_folder
from loadtest.optional import load_optional
from loadtest.plan.arguments import (
    OneLineParser,
    add_interface,
    target_from_options,
    words_of_interface,
)
from loadtest.plan.load_plan import MAX_IN_FLIGHT
from loadtest.plan.slo import Slo, slo_from_text
from loadtest.result.files import check_out_folder, write_files
from loadtest.result.folder import MAX_RATE
from loadtest.result.validity import MAX_CAPACITY_SHARE
from loadtest.result.verdict import Status
from loadtest.terminal import settle_terminal

__all__ = ["main"]

log = logging.getLogger(__name__)

MIN_S, MAX_S = 10.0, 300.0  # of one probe
HIGHEST = 1e5  # requests a second; nothing here generates more
CLOSED_S, CLOSED_USERS = 8.0, 8
SEARCH_BYTES = 32 * 2**20  # some forty loads of a thousand requests or more, each with its page
STOPPED = "stopped before the end"
SAID = {
    Status.PASSED: "a max rate is shown",
    Status.FAILED: "no max rate, and the service is why",
    Status.INCONCLUSIVE: "no max rate: too little was measured",
    Status.INVALID: "no max rate: the figures may be of the generator",
}


@dataclass(frozen=True)
class LoadTarget:
    """What is loaded.

    Args:
        url: of the service.
        corpus: folder or CSV of images.
        out: gets the results.
        slo: the objective.
        service_pid: of the service, where it is on this machine.
        workers: processes that send.
        interface: further words of the command, where the service's interface is not ours.
    """

    url: str
    corpus: Path
    out: Path
    slo: Slo
    service_pid: int | None = None
    workers: int = 1
    interface: Sequence[str] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Search and write.

    Returns:
        Exit code: 0 found, 1 no rate holds or the service went away, 2 wrong use, 3 the figures
        mean nothing or too little, 75 stopped.
    """
    settle_terminal()
    raise_descriptors()
    options = _parser().parse_args(arguments)
    open_console(options)
    try:
        target = LoadTarget(
            options.url,
            options.corpus,
            options.out,
            slo_from_text(options.slo),
            options.service_pid,
            options.workers,
            words_of_interface(options),
        )
        target_from_options(options)
        check_out_folder(target.out, bytes_needed=SEARCH_BYTES)
        junit = options.junit and load_optional("junit")(options.junit, target.out)
        check_descriptors(MAX_IN_FLIGHT)
        if options.first is not None and not 0 < options.first < math.inf:
            raise UsageError(f"--first {options.first:g} is not above 0", "try --first 10")
        write_report = import_report()
    except LoadTestError as error:
        print_error(error)
        return error.exit_code
    try:
        found = _search(target, options.first)
    except LoadFailedError as error:
        return error.exit_code
    print_result(text_of(target.slo, found))
    try:
        value = _write(target, found)
        report = write_report(target.out)
        print_result(f"{'written':<13}{target.out / MAX_RATE}\n{'':<13}{report}")
        if junit:
            junit.write_search(value)
    except LoadTestError as error:
        print_error(error)
        return error.exit_code
    return EXIT_STOPPED if found.note == STOPPED else found.verdict.exit_code


def _search(target: LoadTarget, first: float | None) -> MaxRate:
    """What was found, in part where something ended the search early.

    Raises:
        LoadFailedError: not one load could be made.
    """
    found = MaxRate(target.slo.allowed)
    try:
        with stopped_alike():
            highest = HIGHEST
            if first is None:
                reached, highest = _closed_loop(target)
                first = reached / 2
            measure, allowed = _Prober(target), target.slo.allowed
            find_max_rate(measure, allowed=allowed, first=first, highest=highest, into=found)
            if found.rate and found.refused is None and highest < HIGHEST:
                found.limit = (
                    f"{highest:.0f} requests/s is {MAX_CAPACITY_SHARE:.0%} of what the generator "
                    "manages against an empty server; add --workers"
                )
    except KeyboardInterrupt:
        found.note, found.cause, found.rate = STOPPED, Status.INCONCLUSIVE, 0.0
    except LoadFailedError as error:
        if not found.probes:
            raise
        found.note, found.rate = "the service could be loaded no more", 0.0
        is_gone = (
            error.exit_code == UsageError.exit_code
        )  # nothing else was wrong with the loads before
        found.cause = Status.FAILED if is_gone else Status.INVALID
    return found


def text_of(slo: Slo, found: MaxRate) -> str:
    """The max rate in words, and its probes."""
    lines = [
        f"{probe.rate:9.1f} requests/s  {probe.requests:6} planned  {probe.slow:5} slow  "
        f"{'' if probe.steady else 'growing, '}{verdict}"
        f"{f' ({probe.problem})' if probe.problem else ''}"
        for probe, verdict in found.probes
    ]
    limit = f"{slo.name} <= {slo.target_ms:g} ms"
    if found.note:
        lines.append(f"no max rate  {found.note}")
    elif not found.rate:
        lines.append(f"no max rate  no rate holds {limit}")
    else:
        refused = f"not from {found.refused:.1f} on" if found.refused else "nothing above was tried"
        if found.limit:
            refused += f" ({found.limit})"
        lines.append(
            f"max rate     {found.rate:.1f} requests/s at {limit}, shown {CONFIRMATIONS} times, "
            f"each with 95 % confidence; {refused}"
        )
    lines.append(f"{found.verdict.upper():<13}{SAID[found.verdict]}")
    return "\n".join(lines)


class _Prober:
    """Each call loads the service once."""

    def __init__(self, target: LoadTarget) -> None:
        self._target, self._count = target, 0

    def __call__(self, rate: float, times: int) -> RateTrial:
        self._count += 1
        folder = self._target.out / "probes" / f"{self._count:02d}"
        wanted = requests_wanted(self._target.slo.allowed) * times
        seconds = min(MAX_S, max(MIN_S * times, wanted / rate))
        slo = self._target.slo
        arguments = ["--rate", f"{rate:.6g}", "--duration-s", f"{seconds:g}"]
        arguments += ["--slo", f"{slo.name}={slo.target_ms:g}ms", "--seed", str(self._count)]
        _load(self._target, folder, arguments)
        probe = trial_from_folder(folder, slo)
        log.info(f"{rate:.1f} requests/s: {probe.verdict(self._target.slo.allowed)}")
        return probe


def _closed_loop(target: LoadTarget) -> tuple[float, float]:
    """Requests a second that clients reach, and the most that the generator may be asked for."""
    folder = target.out / "closed"
    users = max(CLOSED_USERS, target.workers)
    arguments = ["--mode", "closed", "--users", str(users), "--duration-s", f"{CLOSED_S:g}"]
    _load(target, folder, [*arguments, "--calibrate"])
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_bytes())
    capacity = summary["calibration"]["capacity_rps"]
    return max(2.0, float(summary["good_rps"])), MAX_CAPACITY_SHARE * float(capacity)


def _load(target: LoadTarget, folder: Path, arguments: list[str]) -> None:
    """One load in a process of its own.

    Raises:
        LoadFailedError: it could not be made; its own words went to stderr.
        KeyboardInterrupt: a signal ended it, after it had written what ran.
    """
    command = [sys.executable, "-m", "loadtest", target.url, "--corpus", str(target.corpus)]
    command += [*target.interface, "--workers", str(target.workers)]
    if target.service_pid is not None:
        command += ["--service-pid", str(target.service_pid)]
    if not log.isEnabledFor(logging.INFO):
        command.append("--quiet")
    code = run_child([*command, *arguments, "--out", str(folder)], quiet=True)
    if code == EXIT_STOPPED:
        raise KeyboardInterrupt
    if not (folder / "summary.json").exists():
        raise LoadFailedError(code if code > 0 else 1)


def _write(target: LoadTarget, found: MaxRate) -> dict[str, Any]:
    objective = {"percentile": target.slo.percentile, "target_ms": target.slo.target_ms}
    value = {"schema_version": 1, "url": target.url, "slo": objective, **found.to_dict()}
    write_files(target.out, {MAX_RATE: json.dumps(value, indent=2, sort_keys=True) + "\n"})
    return value


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m loadtest.promise",
        description="Find the largest rate that holds an objective.",
        allow_abbrev=False,
    )
    parser.add_argument("url", metavar="URL")
    parser.add_argument("--corpus", type=Path, required=True, metavar="PATH")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--slo", required=True, metavar="P=T", help="for example p99=50ms")
    parser.add_argument("--service-pid", type=int, metavar="PID", help="as python -m loadtest")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit's XML")
    parser.add_argument(
        "--first", type=float, metavar="R", help="begin there, without a closed loop"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that send")
    add_verbosity(parser)
    add_interface(parser.add_argument_group("another interface than stillroom's"))
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The command line of `python -m loadtest`, and the plan that it asks for."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.console import add_verbosity
from loadtest.errors import UsageError
from loadtest.plan.load_plan import LoadPlan, base_url_from_text
from loadtest.plan.scenario import CLOSED_SCENARIOS, RATE_SCENARIOS, SCENARIOS, read_recorded
from loadtest.plan.slo import slo_from_text
from loadtest.plan.target import (
    STILLROOM_POINTER,
    STILLROOM_ROUTE,
    Target,
    headers_from_texts,
)
from loadtest.plan.worker_fleet import Fleet, address_from_text

__all__ = [
    "add_interface",
    "build_parser",
    "check_doubling",
    "fleet_from_options",
    "plan_from_options",
    "target_from_options",
    "words_of_interface",
]

DEFAULT_RATE = 10.0
DEFAULT_USERS = 8
DEFAULT_DURATION_S = 30.0
SOAK_S = 600.0

EXAMPLE = """\
example:
  python -m loadtest http://127.0.0.1:3000 --corpus images --out report \\
      --rate 50 --duration-s 30 --slo p99=50ms

exit codes: 0 ok, 1 objective missed or wrong predictions, 2 wrong use,
3 invalid measurement, or too few requests to judge the objective,
75 stopped by a signal after saving"""


def build_parser() -> argparse.ArgumentParser:
    """The command line; every error of it is one line and exit code 2."""
    parser = OneLineParser(
        prog="python -m loadtest",
        description="Measure the latency of an image classification service under load.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    file: dict[str, Any] = {"type": Path, "required": True}
    add("url", metavar="URL", help="base address of the service")
    add("--corpus", **file, metavar="PATH", help="folder of images, or CSV path,label,expected")
    add("--out", **file, metavar="DIR", help="folder for summary.json and samples.csv")
    add("--slo", metavar="P=T", help="objective on the intended latency, such as p99=50ms")
    add("--junit", type=Path, metavar="FILE", help="also write JUnit's XML, for a CI server")
    add_verbosity(parser)
    _add_load(parser.add_argument_group("the load"))
    add_interface(parser.add_argument_group("another interface than stillroom's"))
    _add_generators(parser.add_argument_group("the generators"))
    return parser


def _add_load(group: Any) -> None:
    add = group.add_argument
    seconds: dict[str, Any] = {"type": float, "metavar": "S"}
    add("--mode", choices=("open", "closed"), help="short for --scenario server, or closed")
    add(
        "--scenario",
        type=lambda text: text.lower(),  # MLPerf writes SingleStream, Server, Offline
        choices=SCENARIOS,
        metavar="NAME",
        help=f"default: server; one of {', '.join(SCENARIOS)}",
    )
    add(
        "--rate",
        type=float,
        metavar="R",
        help=f"open loop: requests per second (default {DEFAULT_RATE:g})",
    )
    add("--users", type=int, metavar="N", help=f"closed loop: clients (default {DEFAULT_USERS})")
    add("--requests", type=int, metavar="N", help="offline: how many (default: each image once)")
    add("--recorded", type=Path, metavar="CSV", help="recorded: arrivals, in a column time_s")
    add("--duration-s", **seconds, help="measured seconds (default 30; 600 of a soak)")
    add("--warmup-s", **seconds, default=2.0, help="seconds before, not counted (default 2)")
    add(
        "--seed",
        type=int,
        metavar="N",
        default=0,
        help="of send times and choice of images (default 0)",
    )
    add(
        "--repeat-share",
        type=float,
        metavar="X",
        default=0.0,
        help="share of images sent twice, which shows a cache (default 0)",
    )


def add_interface(group: Any) -> None:
    """Options that say how a service is asked."""
    add = group.add_argument
    add("--route", default=STILLROOM_ROUTE, help=f"path of the POST (default {STILLROOM_ROUTE})")
    add("--field", default="", help="form field of the image (default: the body is the image)")
    add(
        "--header",
        action="append",
        default=[],
        metavar="H",
        help="'Name: value', once for each header; values are not reported",
    )
    add(
        "--answer",
        default=STILLROOM_POINTER,
        metavar="PTR",
        help=f"JSON pointer to the label (default {STILLROOM_POINTER}); '' takes any reply",
    )


def _add_generators(group: Any) -> None:
    add = group.add_argument
    add("--workers", type=int, default=1, metavar="N", help="processes that send (default 1)")
    add(
        "--bind",
        metavar="HOST:PORT",
        help="wait there for --workers workers of other machines; start none here",
    )
    add("--calibrate", action="store_true", help="first measure the generator alone")
    add("--doubling", action="store_true", help="then again with twice the workers")
    add(
        "--service-pid",
        type=int,
        metavar="PID",
        help="service on this machine: watch it, and part cores with it",
    )


def plan_from_options(options: argparse.Namespace, images: int) -> LoadPlan:
    """Check the arguments.

    Args:
        options: of the parser.
        images: how many the corpus holds.

    Raises:
        UsageError: a value out of range, or a flag of another scenario.
    """
    scenario = _scenario(options)
    by_rate, closed = scenario in RATE_SCENARIOS, scenario in CLOSED_SCENARIOS
    _refuse_foreign_flags(options, scenario)
    users = 1 if scenario == "singlestream" else options.users or DEFAULT_USERS
    if options.users is not None:
        users = options.users
    recorded = read_recorded(options.recorded) if scenario == "recorded" else ()
    duration_s = options.duration_s
    if duration_s is None:
        duration_s = SOAK_S if scenario == "soak" else DEFAULT_DURATION_S
        duration_s = recorded[-1] + 1.0 if recorded else duration_s
    return LoadPlan(
        url=base_url_from_text(options.url),
        rate=(DEFAULT_RATE if options.rate is None else options.rate) if by_rate else None,
        users=users if closed or scenario == "offline" else None,
        duration_s=duration_s,
        warmup_s=0.0 if recorded else options.warmup_s,
        seed=options.seed,
        slo=None if options.slo is None else slo_from_text(options.slo),
        scenario=scenario,
        arrivals_s=recorded,
        requests=(options.requests or images) if scenario == "offline" else None,
        repeat_share=options.repeat_share,
        workers=options.workers,
        target=target_from_options(options),
    )


def target_from_options(options: argparse.Namespace) -> Target:
    """How the service is asked.

    Raises:
        UsageError: a route, field, header or pointer that is none.
    """
    return Target(
        route=options.route,
        field=options.field,
        headers=headers_from_texts(options.header),
        answer=options.answer,
    )


def words_of_interface(options: argparse.Namespace) -> list[str]:
    """The options of `add_interface` again, for another command that takes them."""
    named = [f"--{name}={getattr(options, name)}" for name in ("route", "field", "answer")]
    return [*named, *(f"--header={text}" for text in options.header)]


def _scenario(options: argparse.Namespace) -> str:
    if options.scenario is None:
        return "closed" if options.mode == "closed" else "server"
    if options.mode is not None:
        raise UsageError(
            f"--mode {options.mode} and --scenario {options.scenario} say the same thing",
            "leave --mode out",
        )
    return str(options.scenario)


def _refuse_foreign_flags(options: argparse.Namespace, scenario: str) -> None:
    takes_rate = scenario in RATE_SCENARIOS
    takes_users = scenario in ("closed", "offline", "saturation")
    if options.users is not None and not takes_users:
        closed = "a closed loop" if takes_rate else "another scenario"
        raise UsageError(f"--users {options.users} needs {closed}", "add --mode closed")
    if options.rate is not None and not takes_rate:
        raise UsageError(f"--rate {options.rate:g} needs an open loop", "use --mode open")
    if options.requests is not None and (scenario != "offline" or options.requests < 1):
        raise UsageError(
            f"--requests {options.requests} needs --scenario offline and a number above 0",
            "give --duration-s for another scenario",
        )
    if (options.recorded is None) == (scenario == "recorded"):
        raise UsageError(
            "--scenario recorded and --recorded CSV belong together", "give both, or neither"
        )


def check_doubling(options: argparse.Namespace, plan: LoadPlan) -> None:
    """Make sure before the load that it can be repeated with twice the workers, if it is to be.

    Raises:
        UsageError: it cannot.
    """
    if not options.doubling:
        return
    if options.bind is not None:
        raise UsageError("--doubling starts its workers itself", "leave --bind out")
    if plan.scenario == "saturation":
        raise UsageError(
            "--doubling repeats one load, and a saturation is many", "choose another --scenario"
        )
    try:
        replace(plan, workers=2 * plan.workers)
    except UsageError as error:
        raise UsageError(f"--doubling: {error.message}", error.next_step) from error


def fleet_from_options(options: argparse.Namespace) -> Fleet:
    """Where workers are, if there are to be any.

    Raises:
        UsageError: --bind is not an address.
    """
    if options.bind is None:
        return Fleet(corpus=options.corpus)
    host, port = address_from_text(options.bind)
    return Fleet(corpus=options.corpus, bind=host, port=port, external=True)


class OneLineParser(argparse.ArgumentParser):
    """argparse that names the next step instead of repeating the usage."""

    def error(self, message: str) -> Any:
        """End with one line and exit code 2."""
        self.exit(2, f"error: {message}; see python -m loadtest --help\n")

"""The command `python -m loadtest`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.corpus import Photo, load_corpus
from loadtest.environment import fingerprint
from loadtest.errors import InvalidMeasurement, LoadTestError, UsageError
from loadtest.output import check_out_folder, write_outputs
from loadtest.plan import LoadPlan, base_url_from_text
from loadtest.slo import slo_from_text
from loadtest.summary import build_summary, exit_code_from_summary
from loadtest.text import Progress, text_from_summary

EXIT_STOPPED = 75
DEFAULT_RATE = 10.0
DEFAULT_USERS = 8

EXAMPLE = """\
example:
  python -m loadtest http://127.0.0.1:3000 --corpus photos --out report \\
      --rate 50 --duration-s 30 --slo p99=50ms

exit codes: 0 ok, 1 objective missed or wrong answers, 2 wrong use,
3 invalid measurement, or too few requests to judge the objective,
75 stopped by a signal after saving"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one load test; return the exit code of the process."""
    options = build_parser().parse_args(arguments)
    try:
        plan = plan_from_options(options)
        check_out_folder(options.out)
        photos = load_corpus(options.corpus)
        summary = run(plan, photos, options.out)
    except LoadTestError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("error: stopped before the end; nothing was written\n")
        return EXIT_STOPPED
    sys.stdout.write(f"{text_from_summary(summary)}\n")
    sys.stdout.write(f"{'written':<13}{options.out / 'summary.json'}\n")
    sys.stdout.write(f"{'':<13}{options.out / 'samples.csv'}\n")
    return exit_code_from_summary(summary)


def run(plan: LoadPlan, photos: Sequence[Photo], out: Path) -> dict[str, Any]:
    """Probe the service, put the load on it and write the results.

    Raises:
        UsageError: Locust is missing, or nothing at the address classifies; nothing was sent
            but the probe.
        InvalidMeasurement: not one request was sent; nothing was written.
    """
    # libev's epoll wakes on whole milliseconds; with select, requests leave 0.2 ms late instead of
    # 0.7 ms (medians at 400 requests/s, 2 shared cores), and at most 900 sockets keep it cheap.
    os.environ.setdefault("GEVENT_BACKEND", "select")
    try:
        import locust  # noqa: F401 - patches the standard library; before anything opens a socket
    except ModuleNotFoundError as error:
        message = "Locust is not installed"
        raise UsageError(message, "from a checkout: pip install '.[loadtest]'") from error
    from loadtest.probe import probe_service
    from loadtest.runner import run_load

    reply = probe_service(plan.url, photos[0], timeout_s=plan.timeout_s)
    sys.stderr.write(f"{plan.url} answers {reply.status} in {reply.elapsed_ms:.1f} ms\n")
    sys.stderr.write(f"{plan.title}\n")
    progress = Progress(sys.stderr, total_s=plan.duration_s)
    result = run_load(plan, photos, progress)
    progress.close()
    sent = any(sample.sent_s is not None for sample in result.samples)
    if not sent and result.stopped_by is None:
        raise InvalidMeasurement(
            f"no request was sent in {plan.duration_s:g} s", "raise --rate or --duration-s"
        )
    summary = build_summary(plan, photos, result, fingerprint())
    write_outputs(out, summary, result.samples)
    return summary


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
    add("url", metavar="URL", help="base address of the service")
    file: dict[str, Any] = {"type": Path, "required": True}
    seconds: dict[str, Any] = {"type": float, "metavar": "S"}
    add("--corpus", **file, metavar="PATH", help="folder of images, or CSV path,label,expected")
    add("--out", **file, metavar="DIR", help="folder for summary.json and samples.csv")
    add("--mode", choices=("open", "closed"), default="open", help="default: open")
    add(
        "--rate",
        type=float,
        metavar="R",
        help=f"open loop: requests per second (default {DEFAULT_RATE:g})",
    )
    add("--users", type=int, metavar="N", help=f"closed loop: clients (default {DEFAULT_USERS})")
    add("--duration-s", **seconds, default=30.0, help="measured seconds (default 30)")
    add("--warmup-s", **seconds, default=2.0, help="seconds before, not counted (default 2)")
    add(
        "--seed",
        type=int,
        metavar="N",
        default=0,
        help="of send times and choice of images (default 0)",
    )
    add("--slo", metavar="P=T", help="objective on the intended latency, such as p99=50ms")
    return parser


def plan_from_options(options: argparse.Namespace) -> LoadPlan:
    """Check the arguments.

    Raises:
        UsageError: a value out of range, or a flag of the other mode.
    """
    if options.mode == "open" and options.users is not None:
        raise UsageError(f"--users {options.users} needs a closed loop", "add --mode closed")
    if options.mode == "closed" and options.rate is not None:
        raise UsageError(f"--rate {options.rate:g} needs an open loop", "use --mode open")
    is_open = options.mode == "open"
    return LoadPlan(
        url=base_url_from_text(options.url),
        rate=(DEFAULT_RATE if options.rate is None else options.rate) if is_open else None,
        users=None if is_open else (DEFAULT_USERS if options.users is None else options.users),
        duration_s=options.duration_s,
        warmup_s=options.warmup_s,
        seed=options.seed,
        slo=None if options.slo is None else slo_from_text(options.slo),
    )


class OneLineParser(argparse.ArgumentParser):
    """argparse that names the next step instead of repeating the usage."""

    def error(self, message: str) -> Any:
        """End with one line and exit code 2."""
        self.exit(2, f"error: {message}; see python -m loadtest --help\n")


if __name__ == "__main__":
    sys.exit(main())

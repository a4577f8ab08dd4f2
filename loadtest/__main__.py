"""The command `python -m loadtest`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.arguments import (
    build_parser,
    check_doubling,
    fleet_from_options,
    plan_from_options,
)
from loadtest.corpus import Photo, load_corpus
from loadtest.errors import LoadTestError, UsageError
from loadtest.junit import cases_from_summary, check_junit_file, write_junit
from loadtest.output import check_out_folder, write_outputs
from loadtest.plan import LoadPlan
from loadtest.result_folder import REPORT
from loadtest.service_watch import ServiceWatch
from loadtest.summary import exit_code_from_summary
from loadtest.terminal import settle_terminal
from loadtest.text import text_from_summary
from loadtest.workplace import Fleet

__all__ = ["build_parser", "main", "run"]

EXIT_STOPPED = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one load test; return the exit code of the process."""
    settle_terminal()
    options = build_parser().parse_args(arguments)
    try:
        # errors come before a large corpus is read and, all the more, before a load
        check_doubling(options, plan_from_options(options, photos=1))
        fleet_from_options(options)
        check_out_folder(options.out)
        check_junit_file(options.junit)
        photos = load_corpus(options.corpus)
        plan = plan_from_options(options, photos=len(photos))
        summary = run(
            plan,
            photos,
            options.out,
            fleet=fleet_from_options(options),
            calibrated=options.calibrate,
            doubled=options.doubling,
            watch=None if options.service_pid is None else ServiceWatch(options.service_pid),
        )
        if options.junit:
            write_junit(options.junit, cases_from_summary(summary), summary["duration_s"])
    except LoadTestError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("error: stopped before the load began\n")
        return EXIT_STOPPED
    sys.stdout.write(f"{text_from_summary(summary)}\n")
    sys.stdout.write(f"{'written':<13}{options.out / 'summary.json'}\n")
    sys.stdout.write(f"{'':<13}{options.out / 'samples.csv'}\n")
    sys.stdout.write(f"{'':<13}{options.out / REPORT}\n")
    return exit_code_from_summary(summary)


def run(
    plan: LoadPlan,
    photos: Sequence[Photo],
    out: Path,
    *,
    fleet: Fleet | None = None,
    calibrated: bool = False,
    doubled: bool = False,
    watch: ServiceWatch | None = None,
) -> dict[str, Any]:
    """Probe the service, put the load on it and write the results.

    Args:
        plan: what to do.
        photos: the corpus.
        out: folder for the results.
        fleet: where workers are; None where this process always sends.
        calibrated: whether the generator is measured alone before.
        doubled: whether the load is repeated with twice the workers.
        watch: of the service's processes, where they are on this machine.

    Raises:
        UsageError: Locust is missing, or nothing at the address classifies; nothing was sent
            but the probe.
        InvalidMeasurement: not one request was sent; nothing was written.
    """
    import_locust()
    from loadtest.calibration import calibrate
    from loadtest.probe import probe_service
    from loadtest.session import Session

    reply = probe_service(plan.url, photos[0], timeout_s=plan.timeout_s, target=plan.target)
    sys.stderr.write(f"{plan.url} answers {reply.status} in {reply.elapsed_ms:.1f} ms\n")
    further = {"calibration": calibrate(plan, photos)} if calibrated else {}
    session = Session(photos, fleet=fleet, watch=watch, workers=plan.workers, further=further)
    if plan.scenario == "saturation":
        result, summary = session.saturate(plan)
    else:
        result, summary = session.measure(plan)
    if doubled and result.stopped_by is None:
        summary = session.double(plan, result, summary)
    write_outputs(out, summary, result.samples)
    from loadtest.report.page import write_report  # its template engine comes with Locust

    write_report(out)
    return summary


def import_locust() -> None:
    """Patch the standard library for gevent, before anything opens a socket.

    Raises:
        UsageError: Locust is missing.
    """
    # libev's epoll wakes on whole milliseconds; with select, requests leave 0.2 ms late instead of
    # 0.7 ms (medians at 400 requests/s, 2 shared cores), and at most 900 sockets keep it cheap.
    os.environ.setdefault("GEVENT_BACKEND", "select")
    try:
        import locust  # noqa: F401
    except ModuleNotFoundError as error:
        message = "Locust is not installed"
        raise UsageError(message, "from a checkout: pip install '.[loadtest]'") from error


if __name__ == "__main__":
    sys.exit(main())

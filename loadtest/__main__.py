"""The command `python -m loadtest`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.errors import LoadTestError, UsageError
from loadtest.extras.distributed.worker_config import Fleet
from loadtest.extras.host_monitor.service_watch import ServiceWatch
from loadtest.extras.junit import cases_from_summary, check_junit_file, write_junit
from loadtest.generator.histogram import has_histograms
from loadtest.generator.outcome import Sample
from loadtest.generator.preparation import check_descriptors, import_report, raise_descriptors
from loadtest.plan.arguments import (
    build_parser,
    check_doubling,
    fleet_from_options,
    plan_from_options,
)
from loadtest.plan.corpus import CorpusImage, load_corpus
from loadtest.plan.load_plan import LoadPlan
from loadtest.result.console_report import text_from_summary
from loadtest.result.files import bytes_of_results, check_out_folder, write_outputs
from loadtest.result.folder import SAMPLES, SUMMARY
from loadtest.result.summary import exit_code_from_summary
from loadtest.result.verdict import status_of
from loadtest.terminal import settle_terminal

__all__ = ["build_parser", "main", "measure", "run"]

EXIT_STOPPED = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one load test; return the exit code of the process."""
    settle_terminal()
    raise_descriptors()
    options = build_parser().parse_args(arguments)
    try:
        # errors come before a large corpus is read and, all the more, before a load
        asked = plan_from_options(options, photos=1)
        check_doubling(options, asked)
        fleet_from_options(options)
        check_out_folder(options.out, bytes_needed=bytes_of_results(asked))
        check_junit_file(options.junit, options.out)
        check_descriptors(asked.most_in_flight)
        photos = load_corpus(options.corpus)
        plan = plan_from_options(options, photos=len(photos))
        summary, samples = measure(
            plan,
            photos,
            fleet=fleet_from_options(options),
            calibrated=options.calibrate,
            doubled=options.doubling,
            watch=None if options.service_pid is None else ServiceWatch(options.service_pid),
        )
    except LoadTestError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("error: stopped before the load began\n")
        return EXIT_STOPPED
    sys.stdout.write(f"{text_from_summary(summary)}\n")  # first: it is all that a full disk leaves
    try:
        written = write_results(options.out, summary, samples)
        sys.stdout.write(f"{'written':<13}{(chr(10) + ' ' * 13).join(map(str, written))}\n")
        if options.junit:
            cases = cases_from_summary(summary)
            write_junit(options.junit, cases, summary["duration_s"], verdict=status_of(summary))
    except LoadTestError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return exit_code_from_summary(summary)


def run(plan: LoadPlan, photos: Sequence[CorpusImage], out: Path, **further: Any) -> dict[str, Any]:
    """Measure, and write the results into a folder; see `measure` for the arguments."""
    summary, samples = measure(plan, photos, **further)
    write_results(out, summary, samples)
    return summary


def write_results(
    out: Path, summary: dict[str, Any], samples: Sequence[Sample]
) -> tuple[Path, Path, Path]:
    """Write the files and the page.

    Where the folder cannot be written any more, they go into a new one for temporary files.

    Raises:
        LoadTestError: the results are elsewhere, and where; or they cannot be written at all.
    """
    write_report = import_report()
    try:
        write_outputs(out, summary, samples)
        return out / SUMMARY, out / SAMPLES, write_report(out)
    except LoadTestError as error:
        spare = Path(tempfile.mkdtemp(prefix="stillroom-loadtest-"))
        write_outputs(spare, summary, samples)
        write_report(spare)
        raise LoadTestError(error.message, f"they are in {spare}") from error


def measure(
    plan: LoadPlan,
    photos: Sequence[CorpusImage],
    *,
    fleet: Fleet | None = None,
    calibrated: bool = False,
    doubled: bool = False,
    watch: ServiceWatch | None = None,
) -> tuple[dict[str, Any], Sequence[Sample]]:
    """Probe the service and put the load on it.

    Args:
        plan: what to do.
        photos: the corpus.
        fleet: where workers are; None where this process always sends.
        calibrated: whether the generator is measured alone before.
        doubled: whether the load is repeated with twice the workers.
        watch: of the service's processes, where they are on this machine.

    Returns:
        The summary, and the samples that it is of.

    Raises:
        UsageError: something that is needed is missing, or nothing at the address classifies;
            nothing was sent but the probe.
        InvalidMeasurement: not one request was sent.
    """
    import_locust()
    import_report()
    from loadtest.generator.calibration import calibrate
    from loadtest.generator.preflight import probe_service
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
    return summary, result.samples


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

        has_histograms()  # loaded now, not when the descriptors are spent
    except ModuleNotFoundError as error:
        name = "Locust" if error.name == "locust" else error.name  # or something that it needs
        message = f"{name} is not installed"
        raise UsageError(message, "from a checkout: pip install '.[loadtest]'") from error


if __name__ == "__main__":
    sys.exit(main())

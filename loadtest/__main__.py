"""The command `python -m loadtest`."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.console import open_console, print_error, print_result
from loadtest.errors import EXIT_STOPPED, LoadTestError, UsageError
from loadtest.generator.histogram import has_histograms
from loadtest.generator.outcome import Sample
from loadtest.generator.preparation import check_descriptors, import_report, raise_descriptors
from loadtest.optional import load_optional
from loadtest.plan.arguments import (
    build_parser,
    check_doubling,
    fleet_from_options,
    plan_from_options,
)
from loadtest.plan.corpus import CorpusImage, load_corpus
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.worker_fleet import Fleet
from loadtest.result.console_report import text_from_summary
from loadtest.result.files import bytes_of_results, check_out_folder, write_outputs
from loadtest.result.folder import SAMPLES, SUMMARY
from loadtest.result.summary import exit_code_from_summary
from loadtest.result.watch import ServiceMonitor
from loadtest.terminal import settle_terminal

__all__ = ["build_parser", "main", "measure", "run"]

log = logging.getLogger("loadtest.session")  # this module may be named __main__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one load test; return the exit code of the process."""
    settle_terminal()
    raise_descriptors()
    options = build_parser().parse_args(arguments)
    open_console(options)
    try:
        # errors come before a large corpus is read and, all the more, before a load
        asked = plan_from_options(options, images=1)
        check_doubling(options, asked)
        fleet_from_options(options)
        check_out_folder(options.out, bytes_needed=bytes_of_results(asked))
        junit = options.junit and load_optional("junit")(options.junit, options.out)
        check_descriptors(asked.most_in_flight)
        images = load_corpus(options.corpus)
        plan = plan_from_options(options, images=len(images))
        summary, samples = measure(
            plan,
            images,
            fleet=fleet_from_options(options),
            calibrated=options.calibrate,
            doubled=options.doubling,
            watch=None
            if options.service_pid is None
            else load_optional("service_watch")(options.service_pid),
        )
    except LoadTestError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        print_error("stopped before the load began")
        return EXIT_STOPPED
    print_result(text_from_summary(summary))  # first: it is all that a full disk leaves
    try:
        written = write_results(options.out, summary, samples)
        print_result(f"{'written':<13}{(chr(10) + ' ' * 13).join(map(str, written))}")
        if junit:
            junit.write_load(summary)
    except LoadTestError as error:
        print_error(error)
        return error.exit_code
    return exit_code_from_summary(summary)


def run(plan: LoadPlan, images: Sequence[CorpusImage], out: Path, **further: Any) -> dict[str, Any]:
    """Measure, and write the results into a folder; see `measure` for the arguments."""
    summary, samples = measure(plan, images, **further)
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
    images: Sequence[CorpusImage],
    *,
    fleet: Fleet | None = None,
    calibrated: bool = False,
    doubled: bool = False,
    watch: ServiceMonitor | None = None,
) -> tuple[dict[str, Any], Sequence[Sample]]:
    """Probe the service and put the load on it.

    Args:
        plan: what to do.
        images: the corpus.
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

    reply = probe_service(plan.url, images[0], timeout_s=plan.timeout_s, target=plan.target)
    log.info(f"{plan.url} answers {reply.status} in {reply.elapsed_ms:.1f} ms")
    further = {"calibration": calibrate(plan, images)} if calibrated else {}
    session = Session(images, fleet=fleet, watch=watch, workers=plan.workers, further=further)
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

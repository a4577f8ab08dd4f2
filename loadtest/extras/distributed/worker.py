"""One generator of several: waits for a master of the load test, sends its share, reports back.

    python -m loadtest.worker 127.0.0.1:5557 --corpus images

The master starts those of its own machine itself; on other machines, run this. It speaks Locust's
protocol, which knows no passwords: keep it inside a network that you trust.

Importing this module does not import Locust; running it does.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.console import print_error
from loadtest.errors import LoadTestError
from loadtest.extras.distributed.serialization import plan_from_message, row_from_sample
from loadtest.generator.histogram import has_histograms
from loadtest.generator.preparation import raise_descriptors
from loadtest.plan.corpus import CorpusImage, corpus_sha256, load_corpus
from loadtest.plan.worker_fleet import address_from_text

if TYPE_CHECKING:
    from loadtest.generator.outcome import Tally
    from loadtest.generator.process import Generator

__all__ = ["main"]

ROWS_A_MESSAGE = 2000
RUNNING = "running"
"""Locust's name of the state in which all users are spawned."""


class LoadWorker:
    """Answers the master's messages.

    Args:
        host: of the master.
        port: of the master.
        images: the corpus; the master refuses another than its own.
    """

    def __init__(self, host: str, port: int, images: Sequence[CorpusImage]) -> None:
        from locust.env import Environment

        self._images = images
        self._generator: Generator | None = None
        self._environment = Environment(user_classes=[])
        self._runner = self._environment.create_worker_runner(host, port)
        self._runner.register_message("load_plan", self._on_plan)
        self._runner.register_message("load_begin", self._on_begin, concurrent=True)
        self._runner.register_message("load_halt", self._on_halt)
        self._runner.register_message("load_hello", self._on_hello)

    def join(self) -> None:
        """Serve the master until it says that it is over, or is gone."""
        self._runner.greenlet.join()

    def _on_hello(self, **_: Any) -> None:
        self._send("load_corpus", {"sha256": corpus_sha256(self._images)})

    def _on_plan(self, msg: Any, **_: Any) -> None:
        """Draw the schedule and take over the users' class."""
        from loadtest.generator.process import Generator

        plan = plan_from_message(msg.data["plan"])
        worker = int(msg.data["worker"])
        self._generator = Generator(plan, self._images, origin_s=math.inf, worker=worker)
        self._environment.user_classes = [self._generator.user_class]
        self._send("load_ready", {})

    def _on_begin(self, msg: Any, **_: Any) -> None:
        """Set the clock, wait until Locust has spawned the users, and then for their end."""
        if self._generator is None:
            return
        generator = self._generator
        generator.set_origin(time.perf_counter() + float(msg.data["origin_in_s"]))
        while self._runner.worker_state != RUNNING:
            time.sleep(0.005)  # gevent's
        generator.run(self._runner.user_greenlets, self._send_tally)
        rows = [row_from_sample(sample) for sample in generator.log.measured()]
        for first in range(0, len(rows), ROWS_A_MESSAGE):
            self._send("load_samples", {"rows": rows[first : first + ROWS_A_MESSAGE]})
        end = {
            "report": asdict(generator.report()),
            "duration_s": generator.duration_s,
            "abandoned": generator.log.in_flight,
        }
        self._send("load_end", end)

    def _on_halt(self, **_: Any) -> None:
        if self._generator is not None:
            self._generator.halt.set(None)

    def _send_tally(self, log: Tally, now_s: float) -> None:
        names = ("sent", "ok", "failed", "missed", "in_flight")
        self._send("load_tally", {"now_s": now_s, **{name: getattr(log, name) for name in names}})

    def _send(self, kind: str, data: dict[str, Any]) -> None:
        self._runner.send_message(kind, data)


def main(arguments: Sequence[str] | None = None) -> int:
    """Connect, work, and end with the master."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.worker", description=__doc__)
    parser.add_argument("master", metavar="HOST:PORT", help="where the master listens")
    parser.add_argument("--corpus", type=Path, required=True, help="the same as the master's")
    parser.add_argument("--core", type=int, metavar="N", help="run on this core only")
    options = parser.parse_args(arguments)
    os.environ.setdefault("GEVENT_BACKEND", "select")
    raise_descriptors()
    try:
        host, port = address_from_text(options.master)
        if options.core is not None:
            os.sched_setaffinity(0, {options.core})
        images = load_corpus(options.corpus)
        import locust  # noqa: F401 - patches the standard library before anything opens a socket

        has_histograms()  # loaded now, not when the descriptors are spent

        try:
            worker = LoadWorker(host, port, images)
        except ConnectionError as error:  # Locust has asked for five minutes
            message = f"no master of a load test at {options.master}"
            raise LoadTestError(message, "start it first, with --bind of that address") from error
        worker.join()
    except LoadTestError as error:
        print_error(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

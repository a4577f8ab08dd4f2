"""Simulated clients for Locust: one that keeps to a schedule, and others that wait for replies.

Importing this module imports Locust, which patches the standard library for gevent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, ClassVar

import gevent
from gevent.event import AsyncResult
from gevent.pool import Pool
from locust import FastHttpUser, constant, task
from locust.exception import StopUser

from loadtest.generator.outcome import Outcome, Sample, SampleLog, outcome_of
from loadtest.generator.preparation import fault_of
from loadtest.plan.corpus import CorpusImage
from loadtest.plan.load_plan import MAX_IN_FLIGHT
from loadtest.plan.reply import stages_from_header
from loadtest.plan.schedule import image_picks
from loadtest.plan.target import STILLROOM, Target

__all__ = ["ClosedLoopUser", "ImageUser", "OfflineUser", "OpenLoopUser"]

FAULT_PAUSE_S = 0.1


class ImageUser(FastHttpUser):  # type: ignore[misc]
    """Sends images and notes what became of them.

    Attributes:
        images: the corpus.
        target: how the service is asked.
        seed: of the choice of images.
        stream: number of this process's first stream of images.
        repeat_share: share of images that are sent a second time.
        timeout_s: deadline of a whole request, connecting included.
        origin_s: `time.perf_counter()` at the start of the measured window.
        log: where samples go; None where Locust's own statistics are enough.
        halt: gets a value when the run is to end early; None if that never happens.
    """

    abstract = True
    insecure = False
    max_redirects = 0
    images: ClassVar[Sequence[CorpusImage]] = ()
    target: ClassVar[Target] = STILLROOM
    seed: ClassVar[int] = 0
    stream: ClassVar[int] = 0
    repeat_share: ClassVar[float] = 0.0
    timeout_s: ClassVar[float] = 10.0
    origin_s: ClassVar[float] = 0.0
    log: ClassVar[SampleLog | None] = None
    halt: ClassVar[AsyncResult | None] = None

    def on_stop(self) -> None:
        """Close the connections: their descriptors are needed to write the results."""
        self.client.client.clientpool.close()

    def picks_of(self, user: int = 0) -> Iterator[int]:
        """The endless stream of images of one user of this process."""
        return image_picks(
            images=len(self.images),
            seed=self.seed,
            user=self.stream + user,
            repeat_share=self.repeat_share,
        )

    def now_s(self) -> float:
        """Seconds from the start of the measured window; below 0 during the warm-up."""
        return time.perf_counter() - self.origin_s

    def classify(self, image: CorpusImage, planned_s: float | None = None) -> None:
        """Send one image, wait for its reply and record it; a failure is an outcome, not an error.

        Args:
            image: what to send.
            planned_s: when it was due, on the clock of `now_s`; None for "as soon as possible".
        """
        if self.log is not None:
            self.log.sent += 1
        sent_s = self.now_s()
        reply, error = self._post(image)
        if self.log is not None and error is not None and (fault := fault_of(error)):
            self.log.add_fault(fault, _missed(image, sent_s if planned_s is None else planned_s))
            gevent.sleep(FAULT_PAUSE_S)  # a client that sends again at once would only spin
            return
        done_s = self.now_s()
        status = 0 if reply is None else int(reply.status_code)
        complete = error is None and status == 200
        prediction = self.target.prediction_of(reply.content or b"") if complete else None
        expected = image.expected if self.target.answer else ""
        outcome = outcome_of(status=status, error=error, prediction=prediction, expected=expected)
        if outcome is Outcome.TIMEOUT:
            done_s = max(done_s, sent_s + self.timeout_s)
        _tell_locust(reply, outcome)
        if self.log is not None:
            sample = Sample(
                planned_s=sent_s if planned_s is None else planned_s,
                sent_s=sent_s,
                done_s=done_s,
                outcome=outcome,
                status=status,
                path=image.path,
                size_bytes=len(image.body),
                expected=expected,
                prediction=prediction.label if prediction else "",
                model=prediction.model if prediction else None,
                request_id=_header(reply, "X-Request-Id") or "",
                stages=stages_from_header(_header(reply, "Server-Timing")),
            )
            self.log.add(sample)

    def _post(self, image: CorpusImage) -> tuple[Any, BaseException | None]:
        # TimeoutError instead of gevent's own: the connection pool cleans up after an OSError only.
        deadline = TimeoutError(f"no reply in {self.timeout_s:g} s")
        body, headers = self.target.request_of(image)
        try:
            with gevent.Timeout(self.timeout_s, deadline):
                reply = self.client.post(
                    self.target.route, data=body, headers=headers, catch_response=True
                )
        except Exception as error:  # noqa: BLE001 - else a planned request would have no outcome
            return None, error
        return reply, reply.request_meta["exception"]


class OpenLoopUser(ImageUser):
    """Sends at planned times, whatever the service does; there is one in a process.

    Attributes:
        times_s: when to send, on the clock of `now_s`, ascending.
    """

    abstract = True
    wait_time = constant(0)
    # Locust's default of 10 connections would make requests queue inside the generator.
    concurrency = MAX_IN_FLIGHT
    times_s: ClassVar[Sequence[float]] = ()

    @task  # type: ignore[untyped-decorator]
    def drive(self) -> None:
        """Spawn each request at its time; never wait for a reply before the last is sent."""
        pool = Pool(MAX_IN_FLIGHT)
        try:
            for planned_s, pick in zip(self.times_s, self.picks_of(), strict=False):
                if self._halted_by(planned_s):
                    break
                self._dispatch(pool, self.images[pick], planned_s)
            pool.join()
        finally:
            pool.kill()
        raise StopUser

    def _halted_by(self, planned_s: float) -> bool:
        """Sleep until the planned time, or until the run is halted."""
        wait_s = planned_s - self.now_s()
        if self.halt is not None and wait_s > 0:
            self.halt.wait(wait_s)
        else:
            gevent.sleep(max(wait_s, 0))  # 0 too: what was spawned must get its turn to send
        return self.halt is not None and self.halt.ready()

    def _dispatch(self, pool: Pool, image: CorpusImage, planned_s: float) -> None:
        if not pool.full():
            pool.spawn(self.classify, image, planned_s)
        elif self.log is not None:
            self.log.add(_missed(image, planned_s))


class ClosedLoopUser(ImageUser):
    """Sends the next image as soon as the last one is answered.

    Attributes:
        begin_s: first sending, on the clock of `now_s`.
        end_s: nothing is sent from then on.
    """

    abstract = True
    wait_time = constant(0)
    concurrency = 1
    begin_s: ClassVar[float] = -math.inf
    end_s: ClassVar[float] = math.inf
    numbers: ClassVar[Iterator[int]] = count()

    def on_start(self) -> None:
        """Choose this user's own stream of images and wait for the common start."""
        self.picks = self.picks_of(next(self.numbers))
        gevent.sleep(max(0.0, self.begin_s - self.now_s()))

    @task  # type: ignore[untyped-decorator]
    def send_next(self) -> None:
        """One image, one reply."""
        self.classify_next()

    def classify_next(self) -> None:
        """Send until the end of the window."""
        if self.now_s() >= self.end_s or (self.halt is not None and self.halt.ready()):
            raise StopUser
        self.classify(self.images[next(self.picks)])


class OfflineUser(ClosedLoopUser):
    """One connection of those that drain requests which are all there at the time 0.

    So the intended latency of a request includes what it waited for its turn. The warm-up is that
    of a closed loop.

    Attributes:
        left: the requests that nobody has taken yet; shared.
    """

    abstract = True
    left: ClassVar[Iterator[int]] = iter(())

    def classify_next(self) -> None:
        """Take one of the requests that are left."""
        if self.halt is not None and self.halt.ready():
            raise StopUser
        if self.now_s() < 0:
            self.classify(self.images[next(self.picks)])
            return
        if self.now_s() >= self.end_s or next(self.left, None) is None:
            raise StopUser
        self.classify(self.images[next(self.picks)], planned_s=0.0)


def _missed(image: CorpusImage, planned_s: float) -> Sample:
    return Sample(
        planned_s=planned_s,
        outcome=Outcome.MISSED,
        path=image.path,
        size_bytes=len(image.body),
    )


def _header(reply: Any, name: str) -> str | None:
    return reply.headers.get(name) if reply is not None and reply.headers else None


def _tell_locust(reply: Any, outcome: Outcome) -> None:
    """Enter the outcome into Locust's own statistics, which `locust -f` shows."""
    if reply is None:
        return
    with reply:
        if outcome is Outcome.OK:
            reply.success()
        else:
            reply.failure(outcome.value)

"""One trial: a service under load, between two measurements of what its answers cost without it."""

from __future__ import annotations

import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.bound import Bound, measure_bound, photos_in
from benchmarks.serving.contestants import Contestant, Running, running
from benchmarks.serving.load import Load, run_load
from benchmarks.serving.process_tree import busy_s

__all__ = ["CONNECTIONS", "Trial", "measure"]

CONNECTIONS = 8
WARM_UP_S = 2


@dataclass(frozen=True)
class Trial:
    """What one start of one service showed.

    Args:
        round: number of the round, from 0.
        model: architecture and size.
        service: name of the contestant.
        bound_ms: CPU time of an answer in-process, mean of before and after.
        cpu_ms: CPU time of the service's processes for a request, at CONNECTIONS.
        rate: answers a second, at CONNECTIONS.
        p50_ms: median time of an answer, at one connection.
        bound_p50_ms: median time of an answer in-process, mean of before and after.
        ready_s: from the start to the first right answer.
        pss_mib: memory of the service's processes after the load.
        foreign_cores: CPU that neither service nor wrk used during the load.
        drift: of the bound, after over before.
    """

    round: int
    model: str
    service: str
    bound_ms: float
    cpu_ms: float
    rate: float
    p50_ms: float
    bound_p50_ms: float
    ready_s: float
    pss_mib: float
    foreign_cores: float
    drift: float

    @property
    def ratio(self) -> float:
        """The share of the service's CPU time that the answer itself takes; 1 has no overhead."""
        return self.bound_ms / self.cpu_ms

    @property
    def added_ms(self) -> float:
        """What the service adds to the median time of one client."""
        return self.p50_ms - self.bound_p50_ms

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class _UnderLoad:
    load: Load
    cpu_s: float
    foreign_s: float


def measure(
    contestant: Contestant,
    artifact: Path,
    bodies: Path,
    expected: list[dict[str, Any]],
    *,
    model: str,
    seconds: float,
    number: int,
) -> Trial:
    """Start a service, load it, and compare it with the bound.

    Args:
        contestant: which.
        artifact: that it serves.
        bodies: folder that `write_bodies` filled.
        expected: answer to its first image.
        model: for the table.
        seconds: of each load, and of each measurement of the bound.
        number: of the round.

    Raises:
        MeasurementError: the service does not answer, or not rightly.
    """
    photo = photos_in(bodies)[0].read_bytes()
    before = measure_bound(artifact, bodies, seconds / 2)
    with running(contestant, artifact, photo, expected, bodies / "service.log") as service:
        requests = bodies / f"{contestant.kind}.txt"
        run_load(service.url, requests, connections=CONNECTIONS, seconds=WARM_UP_S)
        loaded = _under_load(service, requests, seconds)
        pss_mib = service.tree.pss_mib()
        single = run_load(service.url, requests, connections=1, seconds=seconds / 2)
    after = measure_bound(artifact, bodies, seconds / 2)
    return Trial(
        round=number,
        model=model,
        service=contestant.name,
        bound_ms=_mean(before, after, "cpu_ms"),
        cpu_ms=loaded.cpu_s / loaded.load.requests * 1e3,
        rate=loaded.load.rate,
        p50_ms=single.p50_ms,
        bound_p50_ms=_mean(before, after, "p50_ms"),
        ready_s=service.ready_s,
        pss_mib=pss_mib,
        foreign_cores=max(0.0, loaded.foreign_s / loaded.load.seconds),
        drift=after.cpu_ms / before.cpu_ms,
    )


def _under_load(service: Running, requests: Path, seconds: float) -> _UnderLoad:
    busy, cpu, children = busy_s(), service.tree.cpu_s(), _children_s()
    load = run_load(service.url, requests, connections=CONNECTIONS, seconds=seconds)
    cpu_s = service.tree.cpu_s() - cpu
    return _UnderLoad(load, cpu_s, busy_s() - busy - cpu_s - (_children_s() - children))


def _children_s() -> float:
    """CPU time of the processes that were waited for, wrk among them, s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _mean(before: Bound, after: Bound, name: str) -> float:
    return float((getattr(before, name) + getattr(after, name)) / 2)

"""What to do to the service, checked before anything is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtest.errors import UsageError
from loadtest.plan.scenario import CLOSED_SCENARIOS, RATE_SCENARIOS, SPIKE_FACTOR
from loadtest.plan.slo import Slo
from loadtest.plan.target import STILLROOM, STILLROOM_ROUTE, Target

__all__ = ["MAX_IN_FLIGHT", "SATURATION_MAX_USERS", "LoadPlan", "base_url_from_text"]

MAX_IN_FLIGHT = 900
"""geventhttpclient tests idle sockets with select(), which knows no descriptor above 1023."""
SATURATION_MAX_USERS = 256
MAX_PLANNED = 2_000_000
"""Samples are kept in memory, some 600 bytes each."""
MAX_WORKERS = 256
MAX_REPEAT_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One load.

    Attributes:
        url: base address of the service, without a slash at its end.
        rate: requests per second of the open loop; None for another scenario.
        users: how many clients of the closed loop send again as soon as they are answered, or how
            many connections drain an offline load; None for arrivals at a rate or recorded ones.
        duration_s: the measured window, > 0; the longest that an offline load may take.
        warmup_s: load before it that is not counted, >= 0.
        timeout_s: a request without its whole reply by then is given up.
        scenario: one of `scenario.SCENARIOS`; empty for "server" with a rate and "closed" without.
        arrivals_s: of the scenario "recorded": seconds from the first, ascending.
        requests: of the scenario "offline": how many there are at once.
        repeat_share: share of images sent a second time, in [0, 0.5]: shows a cache.
        workers: processes among which the load is split.
        target: how the service is asked.
    """

    url: str
    rate: float | None = None
    users: int | None = None
    duration_s: float = 30.0
    warmup_s: float = 2.0
    seed: int = 0
    slo: Slo | None = None
    timeout_s: float = 10.0
    scenario: str = ""
    arrivals_s: tuple[float, ...] = ()
    requests: int | None = None
    repeat_share: float = 0.0
    workers: int = 1
    target: Target = STILLROOM

    def __post_init__(self) -> None:
        if (self.rate is not None) + (self.users is not None) + bool(self.arrivals_s) != 1:
            raise UsageError(
                "a load has either a rate or users",
                "give --rate with --mode open, --users with --mode closed",
            )
        if not self.scenario:
            object.__setattr__(self, "scenario", "server" if self.users is None else "closed")
        self._check_scenario()
        self._check_positive("--duration-s", self.duration_s, "30")
        if self.rate is not None:
            self._check_rate(self.rate)
        if self.users is not None and not 1 <= self.users <= MAX_IN_FLIGHT:
            raise UsageError(
                f"--users {self.users} is not from 1 to {MAX_IN_FLIGHT}", "try --users 8"
            )
        if not (math.isfinite(self.warmup_s) and self.warmup_s >= 0):
            raise UsageError(f"--warmup-s {self.warmup_s:g} is below 0", "try --warmup-s 2")
        if not 0 <= self.repeat_share <= MAX_REPEAT_SHARE:
            raise UsageError(
                f"--repeat-share {self.repeat_share:g} is not from 0 to {MAX_REPEAT_SHARE}",
                "try --repeat-share 0.2",
            )
        if not 1 <= self.workers <= MAX_WORKERS:
            raise UsageError(
                f"--workers {self.workers} is not from 1 to {MAX_WORKERS}",
                "one for each core that the service leaves free is usual",
            )
        if self.users is not None and self.users < self.workers:
            raise UsageError(
                f"{self.users} clients cannot be split among {self.workers} processes",
                f"lower --workers to {self.users} or raise --users",
            )

    def _check_scenario(self) -> None:
        wanted = {"recorded": "arrivals", "offline": "users and requests"}
        wanted |= dict.fromkeys(RATE_SCENARIOS, "rate") | dict.fromkeys(CLOSED_SCENARIOS, "users")
        has = "rate" if self.rate is not None else "arrivals" if self.arrivals_s else "users"
        has += " and requests" if self.requests else ""
        if self.scenario not in wanted:
            known = ", ".join(wanted)
            raise UsageError(f"--scenario {self.scenario!r} is unknown", f"it is one of {known}")
        if wanted[self.scenario] != has:
            raise UsageError(
                f"--scenario {self.scenario} takes {wanted[self.scenario]}, not {has}",
                "see python -m loadtest --help",
            )

    def _check_rate(self, rate: float) -> None:
        self._check_positive("--rate", rate, "10")
        expected = self.highest_rate * (self.warmup_s + self.duration_s)
        if expected > MAX_PLANNED:
            raise UsageError(
                f"--rate {rate:g} for {self.duration_s:g} s would be {expected:.0f} requests, "
                f"more than {MAX_PLANNED}",
                "lower --rate or --duration-s",
            )

    @property
    def highest_rate(self) -> float:
        """Requests a second at the busiest moment; 0 without a rate."""
        return (self.rate or 0.0) * (SPIKE_FACTOR if self.scenario == "spike" else 1)

    @property
    def most_in_flight(self) -> int:
        """Requests of one process that may wait at once, were the service to answer none."""
        if self.scenario == "saturation":
            return SATURATION_MAX_USERS
        if self.users is not None:
            return math.ceil(self.users / self.workers)
        waiting = len(self.arrivals_s) or self.highest_rate * self.timeout_s
        return min(MAX_IN_FLIGHT, math.ceil(waiting / self.workers))

    @staticmethod
    def _check_positive(flag: str, value: float, example: str) -> None:
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{flag} {value:g} is not above 0", f"try {flag} {example}")

    @property
    def mode(self) -> str:
        """`open` where a request is due whatever became of the others, else `closed`."""
        return "closed" if self.scenario in CLOSED_SCENARIOS else "open"

    @property
    def keeps_time(self) -> bool:
        """Whether each request has a time of its own at which it is to be sent."""
        return self.users is None

    @property
    def title(self) -> str:
        """The load in words."""
        users = f"{self.users} user{'s' if self.users != 1 else ''}"
        load = {
            "recorded": f"open loop, {len(self.arrivals_s)} recorded arrivals",
            "offline": f"offline, {self.requests} requests over {self.users} connections",
        }.get(self.scenario)
        if load is None and self.mode == "closed":
            load = f"closed loop, {users}"
        if load is None:
            kind = "" if self.scenario == "server" else f"{self.scenario} of "
            load = f"open loop, {kind}{self.rate:g} requests/s"
        warmup = f" after {self.warmup_s:g} s of warm-up" if self.warmup_s else ""
        return f"{load} for {self.duration_s:g} s{warmup}"


def base_url_from_text(text: str) -> str:
    """The base address of the service without the slash at its end.

    Raises:
        UsageError: no http(s) address, one with a name and password, or one with a query.
    """
    example = "give one such as http://127.0.0.1:3000"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"URL {text!r} is malformed ({error})", example) from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"URL {text!r} is not an http address", example)
    if parts.username or parts.password:
        raise UsageError(
            f"the URL of {host} holds a name or password, which the report would show",
            "leave them out",
        )
    if parts.query or parts.fragment:
        raise UsageError(f"URL {text!r} has a query or fragment", example)
    base = text.rstrip("/")
    if parts.path.rstrip("/").endswith(STILLROOM_ROUTE):
        raise UsageError(
            f"URL {text!r} names the route", f"give {base.removesuffix(STILLROOM_ROUTE)}"
        )
    return base

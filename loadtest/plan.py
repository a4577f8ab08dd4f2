"""What to do to the service, checked before anything is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtest.errors import UsageError
from loadtest.slo import Slo

__all__ = ["CLASSIFY_ROUTE", "MAX_IN_FLIGHT", "LoadPlan", "base_url_from_text"]

CLASSIFY_ROUTE = "/v1/classify"
MAX_IN_FLIGHT = 900
"""geventhttpclient tests idle sockets with select(), which knows no descriptor above 1023."""
MAX_PLANNED = 2_000_000
"""Samples are kept in memory, some 600 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One load.

    Attributes:
        url: base address of the service, without a slash at its end.
        rate: requests per second of the open loop; None for a closed loop.
        users: how many clients of the closed loop send again as soon as they are answered; None
            for an open loop.
        duration_s: the measured window, > 0.
        warmup_s: load before it that is not counted, >= 0.
        timeout_s: a request without its whole reply by then is given up.
    """

    url: str
    rate: float | None = None
    users: int | None = None
    duration_s: float = 30.0
    warmup_s: float = 2.0
    seed: int = 0
    slo: Slo | None = None
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.users is None):
            raise UsageError(
                "a load has either a rate or users",
                "give --rate with --mode open, --users with --mode closed",
            )
        self._check_positive("--duration-s", self.duration_s, "30")
        if self.rate is not None:
            self._check_rate(self.rate)
        if self.users is not None and not 1 <= self.users <= MAX_IN_FLIGHT:
            raise UsageError(
                f"--users {self.users} is not from 1 to {MAX_IN_FLIGHT}", "try --users 8"
            )
        if not (math.isfinite(self.warmup_s) and self.warmup_s >= 0):
            raise UsageError(f"--warmup-s {self.warmup_s:g} is below 0", "try --warmup-s 2")

    def _check_rate(self, rate: float) -> None:
        self._check_positive("--rate", rate, "10")
        expected = rate * (self.warmup_s + self.duration_s)
        if expected > MAX_PLANNED:
            raise UsageError(
                f"--rate {rate:g} for {self.duration_s:g} s would be {expected:.0f} requests, "
                f"more than {MAX_PLANNED}",
                "lower --rate or --duration-s",
            )

    @staticmethod
    def _check_positive(flag: str, value: float, example: str) -> None:
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{flag} {value:g} is not above 0", f"try {flag} {example}")

    @property
    def mode(self) -> str:
        """`open` or `closed`."""
        return "open" if self.users is None else "closed"

    @property
    def title(self) -> str:
        """The load in words."""
        if self.users is None:
            load = f"open loop, {self.rate:g} requests/s"
        else:
            load = f"closed loop, {self.users} user{'s' if self.users > 1 else ''}"
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
        raise UsageError(f"URL {text!r} is no http address", example)
    if parts.username or parts.password:
        raise UsageError(
            f"the URL of {host} holds a name or password, which the report would show",
            "leave them out",
        )
    if parts.query or parts.fragment:
        raise UsageError(f"URL {text!r} has a query or fragment", example)
    base = text.rstrip("/")
    if parts.path.rstrip("/").endswith(CLASSIFY_ROUTE):
        raise UsageError(
            f"URL {text!r} names the route", f"give {base.removesuffix(CLASSIFY_ROUTE)}"
        )
    return base

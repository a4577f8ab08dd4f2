"""Admission by time: what a request would wait for, against the time that its client gives it.

A queue that is only counted says yes to work that will be late. The costs of decoding and inference
are measured as they happen, so a response that cannot be in time is refused at once, while the
client can still go elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from serve.http.problems import Problem, RequestError

__all__ = ["EXPIRED", "Costs", "Headers", "overloaded", "timeout_ms_of"]

Headers = Iterable[tuple[bytes, bytes]]  # of an ASGI scope

WEIGHT = 0.1  # of a new measurement: some ten of them are remembered
HEADER = b"x-request-timeout-ms"
MAX_DIGITS = 9
EXPIRED = Problem(
    504,
    "timeout",
    "The response took too long",
    "The time given for this request had passed before its turn came.",
)


@dataclass
class Costs:
    """Moving estimates of what work costs here, ms; 0 until something was measured.

    What stands before a request is not added up from the costs of its stages: they share cores with
    one another, with the event loop and with whoever else is on the machine. The pace at which
    responses came while one more was always due holds all of that.

    Args:
        decode_ms: of one image, in its thread.
        batch_ms: of a whole batch.
        pace_ms: from response to response while requests wait.
    """

    decode_ms: float = 0.0
    batch_ms: float = 0.0
    pace_ms: float = 0.0

    def decoded(self, took_ms: float) -> None:
        """Count one decoded image."""
        self.decode_ms = _moved(self.decode_ms, took_ms)

    def inferred(self, took_ms: float) -> None:
        """Count one batch in the runner."""
        self.batch_ms = _moved(self.batch_ms, took_ms)

    def passed(self, images: int, took_ms: float, *, waited: bool) -> None:
        """Count the predictions of one batch.

        Args:
            images: in it.
            took_ms: since the batch before it, or since its first request came if that was later.
            waited: whether its first request came before the last batch ended. If not, the service
                had nothing to do for a while: it can be faster than this, not slower.
        """
        pace_ms = took_ms / images
        if waited or not self.pace_ms or pace_ms < self.pace_ms:
            self.pace_ms = _moved(self.pace_ms, pace_ms)

    def expected_ms(self, inside: int) -> float:
        """When a request that comes now would have its response.

        Args:
            inside: requests before this one.
        """
        return inside * self.pace_ms + self.decode_ms + self.batch_ms


def overloaded(wait_ms: float) -> Problem:
    """The refusal of a request, with the time after which another try is worth it.

    Args:
        wait_ms: until what is inside now will be done.
    """
    seconds = max(1, math.ceil(wait_ms / 1e3))
    return Problem(
        503,
        "overloaded",
        "The service is at its limit",
        "Too many requests are waiting for this one to be answered in time. Send it again later.",
        {"retry-after": str(seconds)},
    )


def timeout_ms_of(headers: Headers, longest_ms: int) -> int:
    """The time that a client gives its request, ms; `longest_ms` where it asks for more or nothing.

    Raises:
        RequestError: the header is not a whole number above 0.
    """
    # the parser leaves blanks behind a value, which are none of it
    values = [value.strip(b" \t") for name, value in headers if name == HEADER]
    if not values:
        return longest_ms
    if len(values) > 1 or not re.fullmatch(rb"[0-9]{1,%d}" % MAX_DIGITS, values[0]):
        raise RequestError(_INVALID)
    if not (asked := int(values[0])):
        raise RequestError(_INVALID)
    return min(asked, longest_ms)


_INVALID = Problem(
    400,
    "invalid-timeout",
    "The header X-Request-Timeout-Ms is not a time",
    "Expected a whole number of milliseconds, for example 500.",
)


def _moved(old: float, new: float) -> float:
    return new if old == 0 else old + WEIGHT * (new - old)

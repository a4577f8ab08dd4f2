"""What could fail after a long load is tried, or made to work, before it.

Descriptors: each request in flight holds one. The soft limit, often 1024 and sometimes less, is
raised to the hard one; where that cannot suffice either, the load is refused. Imports: the page's
come last otherwise.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

from loadtest.errors import UsageError

__all__ = [
    "check_descriptors",
    "fault_of",
    "import_report",
    "raise_descriptors",
]

OTHER_DESCRIPTORS = 64
"""Of a sending process: its files, its event loop, results to write."""
FAULTS = ("EMFILE", "ENFILE", "EADDRNOTAVAIL", "ENOBUFS", "ENOMEM")
"""Errors of the machine that sends: descriptors, ports, memory."""


def raise_descriptors() -> None:
    """Raise the limit of descriptors as far as is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_descriptors(in_flight: int) -> None:
    """Make sure that one process may hold so many requests in flight.

    Raises:
        UsageError: the limit, which this process cannot raise, is lower.
    """
    needed = in_flight + OTHER_DESCRIPTORS
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise UsageError(
            f"{in_flight} requests may wait at once for their replies, which takes {needed} "
            f"descriptors in one process, and {limit} are allowed",
            f"raise the limit (ulimit -Hn {needed}, as root), load less, or add --workers",
        )


def import_report() -> Callable[[Path], Path]:
    """The function that writes the page, its template engine and templates loaded.

    Raises:
        UsageError: something that it needs is missing.
    """
    try:
        from loadtest.report.page import load_template, write_report

        load_template()
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed, which the page of the results needs"
        raise UsageError(message, "from a checkout: pip install '.[loadtest]'") from error
    return write_report


def fault_of(error: BaseException | None) -> str:
    """Which limit of the machine that sends an error comes from; "" where it is the service's."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        name = errno.errorcode.get(getattr(error, "errno", None) or 0, "")
        if name in FAULTS:
            return name
        error = getattr(error, "original", None) or error.__cause__ or error.__context__
    return _fault_now() if seen and isinstance(seen[0], OSError) else ""


def _fault_now() -> str:
    """Whether another descriptor can be had: a failed look-up of a name does not say so."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "")
    return ""

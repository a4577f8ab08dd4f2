"""The exception tree of the load test (it imports nothing else of stillroom, so it has its own).

* LoadTestError          message, next step, exit code
  - UsageError           wrong call, or no such service: exit 2, nothing was written
    · CorpusError        the images to send
    · ServiceError       the address does not lead to a classification service
  - InvalidMeasurement   a measurement that means nothing: exit 3
  - LoadFailedError      a load of a search ended without results: exit code of that load
"""

from __future__ import annotations

__all__ = [
    "EXIT_STOPPED",
    "CorpusError",
    "InvalidMeasurement",
    "LoadFailedError",
    "LoadTestError",
    "ServiceError",
    "UsageError",
]

EXIT_STOPPED = 75
"""Of a command that a signal has stopped, after it saved what ran."""


class LoadTestError(Exception):
    """What went wrong, and what to do next.

    Args:
        message: the value, and what was expected instead; one line.
        next_step: the command or action that helps; empty where there is none.
    """

    exit_code: int = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}; {self.next_step}" if self.next_step else self.message


class UsageError(LoadTestError):
    """A wrong argument; nothing was sent and nothing was written."""

    exit_code = 2


class CorpusError(UsageError):
    """The images to send are missing, unreadable or not images."""


class ServiceError(UsageError):
    """Nothing at the address answers as a classification service."""


class InvalidMeasurement(LoadTestError):
    """The run ended, but its figures would mean nothing."""

    exit_code = 3


class LoadFailedError(LoadTestError):
    """A load of a search ended without results, and has said why itself.

    Args:
        exit_code: of that load.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"a load ended with exit code {exit_code}")
        self.exit_code = exit_code

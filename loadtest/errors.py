"""The exception tree of the load test (it imports nothing else of stillroom, so it has its own).

* LoadTestError          message, next step, exit code
  - UsageError           wrong call, or no such service: exit 2, nothing was written
    · CorpusError        the photographs to send
    · ServiceError       the address does not lead to a classification service
  - InvalidMeasurement   a measurement that means nothing: exit 3
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["CorpusError", "InvalidMeasurement", "LoadTestError", "ServiceError", "UsageError"]


class LoadTestError(Exception):
    """What went wrong, and what to do next.

    Args:
        message: the value, and what was expected instead; one line.
        next_step: the command or action that helps; empty where there is none.
    """

    exit_code: ClassVar[int] = 1

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
    """The photographs to send are missing, unreadable or no photographs."""


class ServiceError(UsageError):
    """Nothing at the address answers as a classification service."""


class InvalidMeasurement(LoadTestError):
    """The run ended, but its figures would mean nothing."""

    exit_code = 3

"""What an optional part offers that notes how a machine fares while a load runs."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["ServiceMonitor", "Watch"]


class Watch(Protocol):
    """Takes samples; nothing of it may hold up a sending."""

    def sample(self, now_s: float) -> None:
        """Note how things stand; the seconds are the caller's."""

    def describe(self) -> Any:
        """All samples, ready for JSON."""


class ServiceMonitor(Watch, Protocol):
    """A watch of the service's processes, which can also be given cores of their own."""

    def restart(self) -> None:
        """Forget the samples so far."""

    def pin(self, cores: tuple[int, ...]) -> None:
        """Let the service run on these cores only."""

"""Where the workers of a split load are started, and where their master listens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loadtest.errors import UsageError

__all__ = ["Fleet", "address_from_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Where the workers are.

    Attributes:
        corpus: file or folder, for workers that are started here.
        bind: address on which the master listens.
        port: 0 for a free one.
        external: whether the workers are started by somebody else.
        cores: those of the workers that are started here, each on one; empty for all cores.
    """

    corpus: Path
    bind: str = "127.0.0.1"
    port: int = 0
    external: bool = False
    cores: tuple[int, ...] = ()


def address_from_text(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`.

    Raises:
        UsageError: another form, or a port out of range.
    """
    host, _, port = text.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{text!r} is not HOST:PORT", "give one such as 127.0.0.1:5557")
    return host, int(port)

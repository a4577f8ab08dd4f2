"""What a load gave: the raw material of the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.outcome import Sample

__all__ = ["LoadResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """One finished (or stopped) load.

    Attributes:
        samples: of the measured window, by planned time.
        duration_s: length of the measured window as it ran.
        abandoned: requests in flight at a signal, which have no outcome and are no samples.
        stopped_by: name of the signal; None if the load ran to its end.
        cpu_share: CPU seconds per second of the generator, warm-up included.
        load_average_before: of the machine, over 1, 5 and 15 minutes.
        load_average_after: the same, after the load.
    """

    samples: Sequence[Sample]
    duration_s: float
    abandoned: int = 0
    stopped_by: str | None = None
    cpu_share: float = 0.0
    load_average_before: Sequence[float] = (0.0, 0.0, 0.0)
    load_average_after: Sequence[float] = (0.0, 0.0, 0.0)

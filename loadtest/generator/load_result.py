"""What a load gave: the raw material of the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.generator.outcome import Sample

__all__ = ["GeneratorReport", "LoadResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorReport:
    """How one process that sent requests fared itself.

    Attributes:
        worker: its number, from 0.
        requests: how many of the samples are its own, warm-up excluded.
        cpu_share: CPU seconds per second, warm-up included.
        cpu_peak_share: the same in the busiest of the stretches of about a second.
        lag_p99_ms: how late its event loop woke up at the 99th percentile; None if never asked.
        lag_max_ms: the latest.
        memory_mib: the most it has held.
        cores: the cores it may run on.
        time_s: ends of stretches of about a second of the measured window, from its start.
        cpu_shares: CPU seconds per second in each; `rss_mib` resident memory at its end.
        faults: requests that this machine, not the service, was the end of, by the error's name.
        histograms: encoded latencies by kind, "intended" and "service"; empty without the library.
    """

    worker: int = 0
    requests: int = 0
    cpu_share: float = 0.0
    cpu_peak_share: float = 0.0
    lag_p99_ms: float | None = None
    lag_max_ms: float | None = None
    memory_mib: float = 0.0
    cores: Sequence[int] = ()
    time_s: Sequence[float] = field(default_factory=list)
    cpu_shares: Sequence[float] = field(default_factory=list)
    rss_mib: Sequence[float] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """One finished (or stopped) load.

    Attributes:
        samples: of the measured window, by planned time.
        duration_s: length of the measured window as it ran.
        abandoned: requests in flight at a signal, which have no outcome and are no samples.
        stopped_by: name of the signal; None if the load ran to its end.
        cpu_share: CPU seconds per second of the busiest generator, warm-up included.
        load_average_before: of the machine, over 1, 5 and 15 minutes.
        load_average_after: the same, after the load.
        generators: the processes that sent, by number.
        lost_workers: processes that were to send and gave no result.
        service_process: what the service's processes used meanwhile, where they were watched.
    """

    samples: Sequence[Sample]
    duration_s: float
    abandoned: int = 0
    stopped_by: str | None = None
    cpu_share: float = 0.0
    load_average_before: Sequence[float] = (0.0, 0.0, 0.0)
    load_average_after: Sequence[float] = (0.0, 0.0, 0.0)
    generators: Sequence[GeneratorReport] = ()
    lost_workers: int = 0
    service_process: dict[str, Any] | None = None

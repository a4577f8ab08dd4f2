"""Latency histograms that merge exactly: counts in log-linear buckets, three significant digits.

They are for what needs no single sample: the figures of many generators while a load runs, and
tools that draw HdrHistogram's format. Percentiles in a summary come from the raw samples.

A value between 1 microsecond and an hour is recorded as its bucket, which is at most 0.1 % wide;
merging adds counts, so the merged histogram is that of all values, in whatever order they came.

Source: Tene 2013, HdrHistogram; here its Python port, in the compressed encoding V2.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from loadtest.result.percentiles import rank_of_percentile

__all__ = ["LatencyHistogram", "has_histograms"]

LOWEST_US = 1
HIGHEST_US = 3_600_000_000
DIGITS = 3
RELATIVE_ERROR = 10**-DIGITS
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


def has_histograms() -> bool:
    """Whether the package `hdrhistogram` is installed; a load test runs without it."""
    try:
        importlib.import_module("hdrh.histogram")
    except ModuleNotFoundError:
        return False
    return True


class LatencyHistogram:
    """Counts of latencies.

    Args:
        encoded: what `encode` gave; an empty histogram without.

    Raises:
        ModuleNotFoundError: the package `hdrhistogram` is missing.
    """

    def __init__(self, encoded: str = "") -> None:
        library: Any = importlib.import_module("hdrh.histogram").HdrHistogram
        self._counts = library(LOWEST_US, HIGHEST_US, DIGITS)
        if encoded:
            self._counts.decode_and_add(encoded)

    @classmethod
    def of(cls, values_ms: Iterable[float]) -> LatencyHistogram:
        """The histogram of latencies in milliseconds."""
        histogram = cls()
        for value_ms in values_ms:
            histogram.record(value_ms)
        return histogram

    def record(self, value_ms: float) -> None:
        """Count one latency; one out of range counts as the nearest that is in it."""
        value_us = min(max(round(value_ms * 1000), LOWEST_US), HIGHEST_US)
        self._counts.record_value(value_us)

    def merge(self, other: LatencyHistogram) -> None:
        """Add the counts of another."""
        self._counts.add(other._counts)

    @property
    def n(self) -> int:
        """How many latencies were counted."""
        return int(self._counts.get_total_count())

    def percentile_ms(self, percentile: float) -> float:
        """The latency that so many per cent do not exceed, up to the width of its bucket.

        Args:
            percentile: in (0, 100], by nearest rank.

        Raises:
            ValueError: nothing was counted.
        """
        # The library rounds the rank to the nearest; asked for a whole rank, it takes that one.
        rank = rank_of_percentile(percentile, self.n)
        return float(self._counts.get_value_at_percentile(100 * rank / self.n)) / 1000

    def encode(self) -> str:
        """Base64 text that HdrHistogram tools of any language read; values are microseconds."""
        encoded: bytes = self._counts.encode()
        return encoded.decode("ascii")

    def describe(self) -> dict[str, Any]:
        """Count, percentiles and the encoded counts, ready for JSON."""
        names = (f"p{percentile:g}_ms" for percentile in PERCENTILES)
        values = (self.percentile_ms(percentile) if self.n else None for percentile in PERCENTILES)
        return {"n": self.n, **dict(zip(names, values, strict=True)), "encoded": self.encode()}

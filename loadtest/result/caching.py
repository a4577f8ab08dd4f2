"""Whether the service answers an image faster the second time: then it caches predictions.

Each image is compared with itself, so that large and small ones do not mix. A load test of a
service that caches measures its cache, unless its users too send the same images.

Source: the idea is MLPerf Inference's audit TEST04 (github.com/mlcommons/inference, compliance).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loadtest.generator.outcome import Outcome, Sample
from loadtest.result.binomial import median_ranks
from loadtest.result.percentiles import nearest_rank

__all__ = ["compare_repeats"]

CONFIDENCE = 0.95
CACHED_BELOW = 0.9
"""Repeats that take less than this share of the first time, for sure, are called cached."""


def compare_repeats(samples: Iterable[Sample]) -> dict[str, Any]:
    """The service latency of second sendings over that of the first ones.

    Args:
        samples: of a load with repeats, by planned time. Of each image the first two good replies
            count.

    Returns:
        `pairs`; `ratio`, the median over images, with `low` and `high`, an interval of 95 %, each
        None without enough pairs; `cached`, whether the whole interval is below 0.9.
    """
    replies: dict[str, list[float]] = {}
    for sample in samples:
        if sample.outcome is Outcome.OK and sample.service_ms is not None:
            replies.setdefault(sample.path, []).append(sample.service_ms)
    ratios = sorted(own[1] / own[0] for own in replies.values() if len(own) > 1 and own[0] > 0)
    ranks = median_ranks(len(ratios), CONFIDENCE)
    low, high = (ratios[ranks[0] - 1], ratios[ranks[1] - 1]) if ranks else (None, None)
    return {
        "pairs": len(ratios),
        "ratio": round(nearest_rank(ratios, 50), 4) if ranks else None,
        "low": None if low is None else round(low, 4),
        "high": None if high is None else round(high, 4),
        "confidence": CONFIDENCE,
        "cached": high is not None and high < CACHED_BELOW,
    }

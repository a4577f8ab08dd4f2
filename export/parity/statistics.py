"""Exact tests and bounds of counts, with the standard library: a server has no scipy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

__all__ = ["agreement_lower_bound", "holm", "images_to_show", "mcnemar_p", "paired_interval"]

Z_95 = 1.959963984540054  # two-sided 95 % of the normal distribution


def agreement_lower_bound(agree: int, count: int) -> float:
    """One-sided 95 % lower bound of a share, in [0, 1].

    Source: Clopper and Pearson 1934: the share at which `agree` or more has probability 5 %.

    Raises:
        ValueError: not 0 <= agree <= count, or count = 0.
    """
    if not 0 <= agree <= count or count == 0:
        raise ValueError(f"{agree} of {count} is not a share.")
    if agree == 0:
        return 0.0
    failures = count - agree
    # P(at most `failures` failures) rises with the share of agreement.
    return _root(lambda share: _binomial_cdf(failures, count, 1 - share) - 0.05, 0.0, 1.0)


def images_to_show(share: float, wanted: float, *, at_most: int = 10_000) -> int | None:
    """How many images at this share of agreement lift its lower bound to `wanted`; None: too many.

    Args:
        share: of equal predictions, as observed.
        wanted: the bound that is asked for.
        at_most: where to stop.
    """
    low, high = 1, at_most

    def enough(count: int) -> bool:
        return agreement_lower_bound(math.floor(share * count), count) >= wanted

    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def mcnemar_p(lost: int, gained: int) -> float:
    """Exact two-sided p that lost and gained images are equally likely. Source: McNemar 1947."""
    count, fewer = lost + gained, min(lost, gained)
    ways = sum(math.comb(count, k) for k in range(fewer + 1))
    return min(1.0, float(Fraction(2 * ways, 1 << count)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in their order. Source: Holm 1979."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def paired_interval(lost: int, gained: int, count: int) -> tuple[float, float]:
    """95 % interval of (gained - lost) / count: what top-1 changed by, as a fraction.

    A score interval, so that no change among few images is not mistaken for certainty.

    Source: Tango 1998, Statistics in Medicine 17:891, equation 10.

    Raises:
        ValueError: count = 0, or fewer images than changed ones.
    """
    if lost + gained > count or count == 0:
        raise ValueError(f"{lost} lost and {gained} gained of {count} images.")
    change = (gained - lost) / count

    def score(assumed: float) -> float:
        return _score(gained, lost, count, assumed)

    low = -1.0 if change == -1 else _root(lambda d: Z_95 - score(d), -1.0, change)
    high = 1.0 if change == 1 else _root(lambda d: -Z_95 - score(d), change, 1.0)
    return low, high


def _score(gained: int, lost: int, count: int, assumed: float) -> float:
    """Standardised distance of the observed from the assumed change; falls with the latter."""
    distance = gained - lost - count * assumed
    # The share of lost images that is likeliest where the assumed change is the true one.
    a = 2 * count
    b = -gained - lost + (2 * count - gained + lost) * assumed
    c = -lost * assumed * (1 - assumed)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = count * (2 * share + assumed * (1 - assumed))
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _binomial_cdf(most: int, count: int, p: float) -> float:
    """P(X <= most) of count trials."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return 1.0 if most >= count else 0.0
    log_p, log_q, all_ways = math.log(p), math.log1p(-p), math.lgamma(count + 1)
    return math.fsum(
        math.exp(
            all_ways
            - math.lgamma(k + 1)
            - math.lgamma(count - k + 1)
            + k * log_p
            + (count - k) * log_q
        )
        for k in range(most + 1)
    )


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses 0, to the last bit, by halving."""
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return high

"""Accuracy against latency: which offers nothing beats in both, and which one holds the bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Bounds", "Offer", "dominates", "front", "pick"]


@dataclass(frozen=True)
class Offer:
    """What one model gives for what.

    Args:
        key: of the model.
        top1: a fraction.
        latency_ms: of one image.
    """

    key: str
    top1: float
    latency_ms: float


@dataclass(frozen=True)
class Bounds:
    """What the pick must hold.

    Args:
        max_latency_ms: None for none.
        min_top1: a fraction; None for none.
    """

    max_latency_ms: float | None = None
    min_top1: float | None = None

    def __bool__(self) -> bool:
        return self.max_latency_ms is not None or self.min_top1 is not None

    def hold(self, offer: Offer) -> bool:
        """Whether an offer is within them."""
        fast = self.max_latency_ms is None or offer.latency_ms <= self.max_latency_ms
        return fast and (self.min_top1 is None or offer.top1 >= self.min_top1)


def dominates(one: Offer, other: Offer) -> bool:
    """Whether `one` is not worse in both, and better in one."""
    no_worse = one.top1 >= other.top1 and one.latency_ms <= other.latency_ms
    return no_worse and (one.top1, one.latency_ms) != (other.top1, other.latency_ms)


def front(offers: Iterable[Offer]) -> list[Offer]:
    """Offers that no other dominates, the fastest first: each slower one is more accurate."""
    kept: list[Offer] = []
    for offer in sorted(offers, key=lambda o: (o.latency_ms, -o.top1, o.key)):
        equal = kept and (kept[-1].top1, kept[-1].latency_ms) == (offer.top1, offer.latency_ms)
        if not kept or offer.top1 > kept[-1].top1 or equal:
            kept.append(offer)
    return kept


def pick(offers: Iterable[Offer], bounds: Bounds) -> Offer | None:
    """The one to take: never dominated, always within the bounds.

    With a bound on the latency the most accurate one within it, of equal ones the fastest; with a
    bound on top-1 alone the fastest one within it, of equal ones the most accurate.

    Returns:
        None where no offer holds the bounds.
    """
    fitting = [offer for offer in offers if bounds.hold(offer)]
    if not fitting:
        return None
    if bounds.max_latency_ms is None and bounds.min_top1 is not None:
        return min(fitting, key=lambda o: (o.latency_ms, -o.top1, o.key))
    return min(fitting, key=lambda o: (-o.top1, o.latency_ms, o.key))

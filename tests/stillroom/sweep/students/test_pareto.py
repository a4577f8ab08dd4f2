"""The pick: never dominated, within its bounds, and there whenever something holds them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.sweep.students.pareto import Bounds, Offer, dominates, front, pick
from tests.train.toy import PATIENT

# Few values, so that ties are common.
TOP1 = st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.91, 1.0])
LATENCY = st.sampled_from([0.5, 1.0, 1.5, 2.0, 10.0])
OFFERS = st.lists(st.tuples(TOP1, LATENCY), min_size=1, max_size=12).map(
    lambda pairs: [Offer(f"model {i}", *pair) for i, pair in enumerate(pairs)]
)
BOUNDS = st.builds(Bounds, st.none() | LATENCY, st.none() | TOP1)


@PATIENT
@given(OFFERS)
def test_the_front_is_what_nothing_dominates(offers: list[Offer]) -> None:
    kept = front(offers)
    expected = {a.key for a in offers if not any(dominates(b, a) for b in offers)}
    assert {offer.key for offer in kept} == expected
    assert len(kept) == len(expected)
    steps = [(offer.latency_ms, offer.top1) for offer in kept]
    assert steps == sorted(steps)


@PATIENT
@given(OFFERS, BOUNDS)
def test_the_pick_is_within_its_bounds_and_never_dominated(
    offers: list[Offer], bounds: Bounds
) -> None:
    chosen = pick(offers, bounds)
    assert (chosen is None) == (not any(bounds.hold(offer) for offer in offers))
    if chosen is None:
        return
    assert bounds.hold(chosen)
    assert not any(dominates(offer, chosen) for offer in offers)
    fitting = [offer for offer in offers if bounds.hold(offer)]
    if bounds.max_latency_ms is not None:
        assert chosen.top1 == max(offer.top1 for offer in fitting)
    elif bounds.min_top1 is not None:
        assert chosen.latency_ms == min(offer.latency_ms for offer in fitting)


@PATIENT
@given(OFFERS, BOUNDS, st.randoms())
def test_the_order_of_the_offers_does_not_matter(offers, bounds, random) -> None:
    shuffled = random.sample(offers, len(offers))
    assert pick(shuffled, bounds) == pick(offers, bounds)
    assert {offer.key for offer in front(shuffled)} == {offer.key for offer in front(offers)}


@PATIENT
@given(OFFERS, LATENCY, LATENCY)
def test_a_looser_bound_gives_no_less(offers: list[Offer], one: float, two: float) -> None:
    tight, loose = (pick(offers, Bounds(ms)) for ms in sorted((one, two)))
    if tight is not None:
        assert loose is not None
        assert loose.top1 >= tight.top1


@pytest.mark.parametrize(
    ("bounds", "key"),
    [
        (Bounds(max_latency_ms=2.0), "medium"),
        (Bounds(max_latency_ms=0.5), None),
        (Bounds(min_top1=0.85), "medium"),
        (Bounds(min_top1=0.95), None),
        (Bounds(max_latency_ms=9.0, min_top1=0.7), "large"),
        (Bounds(max_latency_ms=1.0, min_top1=0.85), None),
    ],
)
def test_by_hand(bounds: Bounds, key: str | None) -> None:
    offers = [Offer("small", 0.8, 1.0), Offer("medium", 0.9, 2.0), Offer("large", 0.92, 5.0)]
    chosen = pick(offers, bounds)
    assert (chosen.key if chosen else None) == key
    assert bounds
    assert not Bounds()

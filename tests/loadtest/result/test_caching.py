from __future__ import annotations

from random import Random

from loadtest.generator.outcome import Outcome, Sample
from loadtest.result.caching import compare_repeats
from tests.loadtest.hand_made import sample, summary_of


def twice(path: str, first_ms: float, second_ms: float) -> list[Sample]:
    return [
        Sample(
            planned_s=at,
            sent_s=at,
            done_s=at + ms / 1000,
            outcome=Outcome.OK,
            path=path,
            size_bytes=1,
        )
        for at, ms in ((0.0, first_ms), (1.0, second_ms))
    ]


def replies(factor: float) -> list[Sample]:
    """50 images of very different size, answered twice, with a tenth of noise."""
    random = Random(0)
    noisy = [(random.uniform(5, 200), random.uniform(0.95, 1.05)) for _ in range(50)]
    return [one for n, (ms, x) in enumerate(noisy) for one in twice(f"{n}", ms, factor * ms * x)]


def test_a_cache_is_seen() -> None:
    found = compare_repeats(replies(0.2))
    assert (found["pairs"], found["cached"]) == (50, True)
    assert found["low"] <= 0.2 <= found["high"] < 0.3


def test_a_service_that_works_each_time_is_not_accused() -> None:
    found = compare_repeats(replies(1.0))
    assert found["low"] < 1 < found["high"]
    assert not found["cached"]


def test_a_few_pairs_say_nothing() -> None:
    found = compare_repeats(twice("a", 100, 1))
    assert (found["pairs"], found["ratio"], found["cached"]) == (1, None, False)


def test_failures_are_no_first_replies() -> None:
    failed = sample(0, 1, Outcome.HTTP_ERROR)
    assert compare_repeats([failed, sample(1, 20)])["pairs"] == 0


def test_the_summary_warns_of_a_cache() -> None:
    summary = summary_of(replies(0.2), repeat_share=0.3)
    assert any("Repeated images took 0.20 of" in text for text in summary["warnings"])
    assert summary_of(replies(0.2))["caching"] is None

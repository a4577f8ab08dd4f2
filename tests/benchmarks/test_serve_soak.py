"""The soak's judgement, shown failing; the run itself is for a quiet machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.serve_soak import Sample, Soak, photos_in, report, verdict_of


def soaked(mb_per_10k: float, *, statuses: Counter[int] | None = None) -> Soak:
    """A run of 30 000 requests whose memory starts with a jump, as every one does."""
    soak = Soak("http://x", [b"photo"], 50.0, statuses or Counter({200: 30_000}))
    for step in range(100):
        requests = step * 300
        rss_mb = 150 + mb_per_10k * requests / 1e4 - (30 if step < 10 else 0) + step % 2 / 10
        soak.samples.append(Sample(requests, rss_mb, 20, 9))
    return soak


def test_level_memory_passes_and_the_warm_up_does_not_count() -> None:
    verdict = verdict_of(soaked(0.0))
    assert verdict.passed
    assert verdict.slope_mb == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("mb_per_10k", [1.1, 5.0])
def test_growing_memory_fails(mb_per_10k: float) -> None:
    verdict = verdict_of(soaked(mb_per_10k))
    assert not verdict.passed
    assert verdict.slope_mb == pytest.approx(mb_per_10k, abs=0.05)


@pytest.mark.parametrize("what", ["files", "threads"])
def test_one_more_file_or_thread_fails(what: str) -> None:
    soak = soaked(0.0)
    soak.samples[-1] = replace(soak.samples[-1], **{what: 21})
    assert not verdict_of(soak).passed


def test_an_answer_that_is_missing_fails() -> None:
    verdict = verdict_of(soaked(0.0, statuses=Counter({200: 29_999, 0: 1})))
    assert verdict.failed == 1
    assert not verdict.passed


def test_the_report_states_its_conditions() -> None:
    soak = soaked(0.0)
    text = report(soak, verdict_of(soak), 600)
    for part in ("30000 requests in 600 s at 50/s", "CPU cores, load average", "bentoml 1", "PASS"):
        assert part in text


def test_a_folder_without_photographs_is_said(tmp_path) -> None:
    with pytest.raises(SystemExit, match="holds no images"):
        photos_in(tmp_path, most=5)

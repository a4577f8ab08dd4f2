"""Host memory does not grow with the number of epochs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.train.dying import SURVIVED, in_a_child
from tests.train.fits import PLAN, fit_toy, validate_of
from train.data.dataset import Dataset

EPOCHS = 24
SETTLED = 4  # allocators and caches fill up first


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.ci
@pytest.mark.forks
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("workers", [0, 1])
def test_memory_stays_flat_over_twenty_epochs(
    dataset: Dataset, tmp_path: Path, workers: int
) -> None:
    plan = replace(PLAN, epochs=EPOCHS, workers=workers, swa_epochs=EPOCHS, mixup=0.2)
    seen: list[float] = []

    def train() -> None:
        fit_toy(
            dataset,
            tmp_path,
            validate_of(dataset),
            plan=plan,
            listen=lambda _: seen.append(_rss_mib()),
        )
        (tmp_path / "seen").write_text(" ".join(map(str, seen)))

    assert in_a_child(train) == SURVIVED
    rss = np.array((tmp_path / "seen").read_text().split(), float)[SETTLED:]
    assert len(rss) == EPOCHS - SETTLED
    slope, offset = np.polyfit(np.arange(len(rss)), rss, 1)
    noise = np.std(rss - (slope * np.arange(len(rss)) + offset))
    assert slope * len(rss) < max(3.0, 3 * noise), rss.round(1).tolist()

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.distil_cost import Setting, Times, measure, table_of
from tests.train.toy import fast, toy_dataset


@pytest.mark.parametrize("teacher_px", [0, 48])
def test_all_three_take_turns(tmp_path: Path, teacher_px: int) -> None:
    dataset = toy_dataset(tmp_path, count=12)
    setting = Setting(fast(), "test_efficientnet", teacher_px, steps=2, rounds=3)
    times = measure(dataset, setting)
    assert [len(times.plain), len(times.teacher), len(times.distilled)] == [3, 3, 3]
    assert all(ratio > 0.3 for ratio in times.ratios)
    assert "distilling steps" in "\n".join(table_of(setting, times))


def test_the_promise_is_judged_by_the_median_of_the_rounds() -> None:
    setting = Setting(fast(), "test_efficientnet", 0, steps=2, rounds=3)
    kept = Times([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [2.1, 2.2, 9.0])
    assert kept.ratios == [1.05, 1.1, 4.5]
    assert table_of(setting, kept)[-1].endswith(
        "median 1.100 (1.050 to 4.500); promised 1.15: kept."
    )
    missed = Times([1.0], [1.0], [2.4])
    assert table_of(setting, missed)[-1].endswith("promised 1.15: not kept.")
